//! A certificate authority of a test's own, made with openssl.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// How every request begins: its own configuration, not the system's.
const CONFIGURATION: &str = "[req]\ndistinguished_name = name\nprompt = no\n\
     x509_extensions = authority\n[name]\nCN = a test\n\
     [authority]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\n\
     subjectKeyIdentifier = hash\n";

/// An authority; its files go with it.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
}

/// A certificate and its key.
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("openssl.cnf"), CONFIGURATION).unwrap();
        let authority = Self { folder };
        authority.request(&["-x509", "-days", "30", "-keyout", "ca.key", "-out", "ca.pem"]);
        authority
    }

    /// The file by which others know it.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Signs a certificate for names like `DNS:localhost,IP:127.0.0.1`.
    pub(crate) fn certificate(&self, names: &str) -> Certificate {
        self.request(&["-keyout", "server.key", "-out", "server.csr"]);
        let extensions = format!("basicConstraints = CA:FALSE\nsubjectAltName = {names}\n");
        std::fs::write(self.path("extensions"), extensions).unwrap();
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "30",
            "-extfile",
            "extensions",
            "-out",
            "server.pem",
        ]);
        Certificate { certificate: self.path("server.pem"), key: self.path("server.key") }
    }

    fn request(&self, arguments: &[&str]) {
        const KEY: [&str; 8] = [
            "req",
            "-new",
            "-config",
            "openssl.cnf",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ];
        self.openssl(&[&KEY[..], &["-nodes"], arguments].concat());
    }

    fn openssl(&self, arguments: &[&str]) {
        let ran = Command::new("openssl").args(arguments).current_dir(self.folder.path()).output();
        let ran = ran.expect("these tests make certificates: `apt-get install openssl`");
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}
