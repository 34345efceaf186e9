//! What is promised of one process under supervision, with scripts for workers.

use super::*;

/// A worker that is a shell script.
fn script(text: &str) -> Supervised {
    let launch = Launch {
        ready: "ready",
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), text.to_owned()],
        environment: Vec::new(),
    };
    Supervised::start("worker-1".to_owned(), "unix:/nowhere".to_owned(), launch)
}

#[tokio::test]
async fn what_ends_by_itself_is_started_again() {
    let worker = script("echo ready; exit 3");
    let mut standing = worker.standing();
    let again = standing.wait_for(|now| now.restarts >= 2).await.unwrap().clone();
    assert!(again.failures >= 2, "{again:?}");
    assert_eq!(again.last_end.as_deref(), Some("exit status: 3"));
    worker.stop().await;
    assert_eq!(standing.borrow().state, State::Stopped);
}

#[tokio::test]
async fn who_never_answers_is_not_up() {
    let worker = script("exit 1");
    assert!(!worker.is_up().await);
    worker.stop().await;
}

#[tokio::test]
async fn a_restart_is_another_process_and_no_failure() {
    let worker = script("echo ready; read line; exit 1");
    assert!(worker.is_up().await);
    let first = worker.standing().borrow().pid;
    assert!(worker.restart().await);
    let now = worker.standing().borrow().clone();
    assert_ne!(now.pid, first);
    assert_eq!((now.restarts, now.failures), (1, 0));
    worker.stop().await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let launch = Launch {
        ready: "ready",
        program: "/nowhere/colonnade".into(),
        arguments: Vec::new(),
        environment: Vec::new(),
    };
    let worker = Supervised::start("worker-1".to_owned(), "unix:/nowhere".to_owned(), launch);
    assert!(!worker.is_up().await);
    let why = worker.standing().borrow().last_end.clone().unwrap();
    assert!(why.contains("No such file"), "{why}");
    worker.stop().await;
}

#[tokio::test]
async fn a_successor_takes_over_beside_the_one_before() {
    // It fails as soon as there is this folder.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken");
    let text = format!("[ -d {} ] && exit 7; echo ready $$; read line; exit 0", path.display());
    let process = script(&text);
    assert!(process.is_up().await);
    let first = process.standing().borrow().clone();
    assert!(process.replace().await);
    let second = process.standing().borrow().clone();
    assert_ne!(second.pid, first.pid);
    assert_eq!((second.restarts, second.failures, second.state), (1, 0, State::Running));
    assert_eq!(second.said, Some(format!("ready {}", second.pid.unwrap())));
    let lives = |pid: Option<u32>| kill(Pid::from_raw(pid.unwrap() as i32), None).is_ok();
    assert!(lives(first.pid), "the first may go on as long as it likes");

    std::fs::create_dir(&path).unwrap();
    assert!(!process.replace().await);
    let third = process.standing().borrow().clone();
    assert_eq!((third.pid, third.state, third.failures), (second.pid, State::Running, 1));
    assert!(third.last_end.unwrap().contains("successor ended at once"));

    let replaced = process.stop().await;
    assert!(!lives(second.pid) && lives(first.pid));
    drop(replaced);
    while lives(first.pid) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
