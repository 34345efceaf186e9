//! What `colonnade check` finds.

use super::*;

fn problems(routes: &str, endpoints: &str) -> Vec<String> {
    let pools = "pools: { a: { balance: single }, b: { balance: single } }\n";
    let config = Config::parse("r.yaml", &format!("{pools}{routes}")).unwrap();
    let found = check(&config, &parse_endpoints(endpoints)).unwrap();
    found.iter().map(Problem::to_string).collect()
}

#[test]
fn the_bundled_file_serves_every_endpoint_of_the_specification() {
    let config = Config::bundled().unwrap();
    let list = include_str!("../../../tests/it/endpoints.tsv");
    let endpoints: Vec<(String, String)> = list
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|columns| (columns[0].to_owned(), columns[1].replace("/X", "/{x}")))
        .collect();
    assert_eq!(check(&config, &endpoints).unwrap(), []);
}

#[test]
fn endpoints_without_a_route_and_rules_without_a_request_are_found() {
    let routes = "routes:\n\
        \x20 - { match: \"^/x/[^/]+$\", methods: [GET], pool: a }\n\
        \x20 - { match: \"^/x/y$\", methods: [GET], pool: b }\n\
        \x20 - { match: \"^/no$\", deny: true }\n";
    let found = problems(routes, "# comment\nGET /x/{id}\nPUT /x/{id}\n\nGET /no\n");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("PUT /x/{id}: no rule takes /x/"));
    assert!(found[1].starts_with("GET /no: /no is denied"));
    assert!(found[2].starts_with("r.yaml:4: GET,HEAD ^/x/y$ → b: no request can reach"));
}

#[test]
fn a_client_that_could_choose_the_pool_is_found() {
    let routes = "routes:\n\
        \x20 - { match: \"^/.*/typing$\", pool: a }\n\
        \x20 - { match: \"^/send/[^/]+$\", pool: b }\n";
    let found = problems(routes, "PUT /send/{txnId}\n");
    assert!(found[0].contains("what stands in the path changes its pool, see /send/typing"));
}

#[test]
fn a_pool_nobody_leads_to_is_found() {
    let found = problems("routes: [{ match: \"^/$\", pool: a }]", "");
    assert_eq!(found, ["r.yaml: pool b: no rule leads to it"]);
}

/// The file for Synapse's workers sends every operation where Synapse's documentation sends it.
#[test]
fn the_synapse_file_follows_synapse() {
    let text = include_str!("../../../../docs/operating/synapse-workers-routes.yaml");
    let config = Config::parse("synapse-workers-routes.yaml", text).unwrap();
    assert_eq!(check(&config, &[]).unwrap(), []);
    let table = Table::compile(config.routes.clone()).unwrap();
    let mut wrong = Vec::new();
    for line in include_str!("../../../tests/it/synapse-endpoints.tsv").lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let path = columns[1].replace(['{', '}'], "~");
        let method = Method::of(columns[0]);
        let asked = RequestFacts { method, path: &path, query: "since=s1", header: &|_| None };
        let reached = match table.find(&asked) {
            RuleMatch::Rule(route) => match route.target {
                Target::Pool(place) => config.pools[place].name.as_str(),
                Target::Deny => "deny",
            },
            _ => "nothing",
        };
        if reached != columns[2] {
            wrong.push(format!("{line}: {reached}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
