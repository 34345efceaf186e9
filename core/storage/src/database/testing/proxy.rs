//! A way to PostgreSQL that breaks at the worst moments: some messages that commit never arrive,
//! and of some that do the answer is lost.

use std::path::Path;

use colonnade_model::{Random as _, SeededRandom};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

/// What a socket of PostgreSQL is called in its folder.
const SOCKET: &str = ".s.PGSQL.5432";
/// One of so many commits meets an accident.
const ACCIDENTS: u8 = 12;

/// Listens in `folder` and passes everything on to the server whose socket is in `server`.
pub(crate) fn start(folder: &Path, server: &Path, seed: u64) {
    let listener = UnixListener::bind(folder.join(SOCKET)).unwrap();
    let server = server.join(SOCKET);
    tokio::spawn(async move {
        let mut connections = 0;
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = UnixStream::connect(&server).await else { continue };
            connections += 1;
            tokio::spawn(pass(client, server, SeededRandom::new(seed * 1_000 + connections)));
        }
    });
}

/// Passes bytes both ways until one side ends or an accident happens.
async fn pass(mut client: UnixStream, mut server: UnixStream, random: SeededRandom) {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut lose_answer = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(count @ 1..) = read else { return };
                let question = &asked[..count];
                if question.windows(7).any(|word| word == b"COMMIT\0") {
                    let mut chance = [0; 2];
                    random.fill(&mut chance);
                    if chance[0] % ACCIDENTS == 0 {
                        lose_answer = chance[1] % 2 == 0;
                        if !lose_answer {
                            return;
                        }
                    }
                }
                if server.write_all(question).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(count @ 1..) = read else { return };
                // The commit happened: nobody will hear of it this way.
                if lose_answer || client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
