//! Whether whoever supervises this process is still there: it holds our standard input open as long as it
//! lives.

/// Waits until standard input ends; forever, if nobody supervises us.
pub(crate) async fn ends(supervised: bool) {
    if !supervised {
        return std::future::pending().await;
    }
    // A thread of its own, which nothing waits for: the runtime would wait for one of its own.
    let (ends, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _read_to_its_end = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _nobody_waits = ends.send(());
    });
    let _ended = ended.await;
}
