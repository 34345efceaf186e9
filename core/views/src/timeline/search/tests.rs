//! What a search costs, its pages and their tokens.

use colonnade_testkit_rooms::room_event;

use super::*;

fn request(from: Option<&str>) -> SearchRequest {
    SearchRequest { from: from.map(str::to_owned), limit: 10, ..SearchRequest::default() }
}

fn matching(event: i64, rank: f64) -> Match {
    Match { event: EventNid(event), pos: event, rank }
}

fn message(body: &str) -> Shown {
    Shown::from(room_event(1, "m.room.message", None, json!({ "body": body })))
}

#[test]
fn a_search_costs_by_its_words_its_rooms_and_what_is_shown_around() {
    let plain = request(None);
    assert_eq!((plain.cost(0, 0), plain.cost(1, 1), plain.cost(3, 1)), (1, 1, 3));
    assert_eq!(plain.cost(1, ROOMS_PER_COST * 4), 5);
    let with_state = SearchRequest { state: true, ..request(None) };
    assert_eq!((with_state.cost(1, 3), with_state.cost(1, 40)), (4, 11));
    let around = |each| SearchRequest { context: Some((each, each, false)), ..request(None) };
    assert_eq!((around(0).cost(1, 1), around(5).cost(1, 1)), (1, 6));
    // Nobody pays for more than there is, nor less by asking for less than nothing.
    assert_eq!(around(i64::MAX).cost(1, 1), around(AROUND_MAX).cost(1, 1));
    assert_eq!(around(-5).cost(1, 1), 1);
    let greedy = SearchRequest { limit: usize::MAX, ..around(AROUND_MAX) };
    let whole = SearchRequest { limit: PAGE_MAX, ..around(AROUND_MAX) };
    assert_eq!(greedy.cost(1, 1), whole.cost(1, 1));
}

#[test]
fn a_page_of_the_best_begins_where_the_last_one_ended() {
    let found = || Matches { all: (1..=25).map(|n| matching(n, n as f64)).collect(), below: None };
    let ids = |page: &[Match]| page.iter().map(|one| one.event.0).collect::<Vec<_>>();
    let (first, next) = best(&request(None), found(), 10).unwrap();
    assert_eq!(ids(&first), (16..=25).rev().collect::<Vec<_>>());
    assert_eq!(next.as_deref(), Some("n10"));
    let (second, next) = best(&request(next.as_deref()), found(), 10).unwrap();
    assert_eq!((second[0].event, next.as_deref()), (EventNid(15), Some("n20")));
    let (last, next) = best(&request(next.as_deref()), found(), 10).unwrap();
    assert_eq!((ids(&last), next), (vec![5, 4, 3, 2, 1], None));
    let (none, next) = best(&request(Some("n9223372036854775807")), found(), 10).unwrap();
    assert_eq!((none.len(), next), (0, None));
}

#[test]
fn among_equals_the_newest_comes_first() {
    let all = vec![matching(9, 0.5), matching(8, 1.0), matching(7, 0.5)];
    let (page, _) = best(&request(None), Matches { all, below: None }, 10).unwrap();
    assert_eq!(page.iter().map(|one| one.event.0).collect::<Vec<_>>(), [8, 9, 7]);
}

#[test]
fn a_token_goes_on_after_what_was_shown() {
    let page = [matching(9, 1.0), matching(7, 1.0)];
    assert_eq!(request(None).token_after(&page).unwrap(), "n2");
    assert_eq!(request(Some("n10")).token_after(&page).unwrap(), "n12");
    let recent = SearchRequest { recent: true, ..request(Some("p20")) };
    assert_eq!(recent.token_after(&page).unwrap(), "p7");
}

#[test]
fn what_is_no_token_of_this_search_is_refused() {
    for wrong in ["", "n", "5", "p5", "n-5", "n+5", "n5x", "N5", "n 5", "n99999999999999999999"] {
        let error = request(Some(wrong)).shown_before().unwrap_err();
        assert_eq!(error.errcode, "M_INVALID_PARAM", "{wrong}");
    }
    assert_eq!(number("p7", 'p').unwrap(), 7);
}

#[test]
fn a_find_ranks_by_how_much_of_it_the_words_are() {
    let wanted = |words: &[&str]| SearchTerms {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        rooms: Vec::new(),
        fields: Vec::new(),
    };
    assert_eq!(rank(&message("hello"), &wanted(&["hello"])), Some(1.0));
    assert_eq!(rank(&message("hello big wide world"), &wanted(&["hello"])), Some(0.25));
    assert_eq!(rank(&message("hello hello hello you"), &wanted(&["hello"])), Some(0.5));
    let erased = Shown::from(room_event(1, "m.room.message", None, json!({})));
    assert_eq!(rank(&erased, &wanted(&["hello"])), None);
}
