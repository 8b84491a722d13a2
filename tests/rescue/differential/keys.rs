//! The keys that the client offers: one of each kind, and certificates of several authorities.

use crate::kit::{Scratch, public_key, script, trees};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What a login may be tried with. `build` is the key that the healthy trees hold.
pub(super) const KINDS: &[&str] = &[
    "build",
    "ed25519",
    "rsa1024",
    "rsa2048",
    "rsa3072",
    "ecdsa256",
    "ecdsa384",
    "ecdsa521",
    "cert",
    "cert-rsa-key",
    "cert-by-rsa",
    "cert-by-ecdsa",
    "cert-other-name",
    "cert-no-name",
    "cert-expired",
    "cert-not-yet",
    "cert-host",
    "cert-forged",
    "cert-command",
    "cert-from",
    "cert-from-elsewhere",
    "cert-trusted",
    "cert-principals",
    "cert-sha1",
];

const MAKE: &str = r#"
cd "$KEYS"
make() { ssh-keygen -q -N '' -C "$1" -f "$1" -t "$2" ${3:+-b $3}; }
make ed25519 ed25519
for bits in 1024 2048 3072; do make rsa$bits rsa $bits; done
for bits in 256 384 521; do make ecdsa$bits ecdsa $bits; done
make ca ed25519; make ca-rsa rsa 2048; make ca-ecdsa ecdsa 256
certify() { # name authority key options
    name=$1 authority=$2 key=$3; shift 3
    cp "$key" "$name"; cp "$key.pub" "$name.pub"
    ssh-keygen -q -s "$authority" -I "$name" "$@" "$name.pub"
}
certify cert ca ed25519 -n admin,root
certify cert-trusted ca ed25519 -n admin,root
certify cert-principals ca ed25519 -n crew
certify cert-rsa-key ca rsa2048 -n admin,root
certify cert-by-rsa ca-rsa ed25519 -n admin,root
certify cert-sha1 ca-rsa ed25519 -n admin,root -t ssh-rsa
certify cert-by-ecdsa ca-ecdsa ed25519 -n admin,root
certify cert-other-name ca ed25519 -n nobody
certify cert-no-name ca ed25519
certify cert-expired ca ed25519 -n admin,root -V 20200101:20200102
certify cert-not-yet ca ed25519 -n admin,root -V 20900101:20900102
certify cert-host ca ed25519 -n admin,root -h
certify cert-command ca ed25519 -n admin,root -O force-command=true
certify cert-from ca ed25519 -n admin,root -O source-address=127.0.0.0/8
certify cert-from-elsewhere ca ed25519 -n admin,root -O source-address=10.0.0.0/8
certify cert-forged ca ed25519 -n admin,root
# The last byte of the signature turned.
read -r type blob rest < cert-forged-cert.pub
size=$(printf %s "$blob" | base64 -d | wc -c)
{ printf '%s ' "$type"; { printf %s "$blob" | base64 -d | head -c $((size - 3)); printf abc; } | base64 -w 0; echo " $rest"; } > x
mv x cert-forged-cert.pub
"#;

/// Where the keys are; made once by a process.
pub(super) struct Keys {
    directory: &'static Path,
}

impl Keys {
    pub(super) fn made() -> Result<Self> {
        static MADE: OnceLock<Result<Scratch, String>> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            let make = || {
                let scratch = Scratch::new()?;
                script(MAKE, &[("KEYS", scratch.path())])?;
                Ok::<_, anyhow::Error>(scratch)
            };
            make().map_err(|error| format!("{error:#}"))
        });
        match made {
            Ok(scratch) => Ok(Self { directory: scratch.path() }),
            Err(message) => bail!("making keys: {message}"),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory
    }

    /// The private key; the certificate, where there is one, lies beside it as ssh looks for it.
    pub(super) fn private(&self, kind: &str) -> PathBuf {
        if kind == "build" {
            trees().map_or_else(|_| PathBuf::new(), |trees| trees.join("login_key"))
        } else {
            self.directory.join(kind)
        }
    }

    /// The plain public half.
    pub(super) fn public(&self, kind: &str) -> PathBuf {
        if kind == "build" {
            public_key().unwrap_or_default()
        } else {
            self.directory.join(format!("{kind}.pub"))
        }
    }

    /// What the client offers first: the certificate, where there is one.
    pub(super) fn offered(&self, kind: &str) -> PathBuf {
        if kind.starts_with("cert") {
            self.directory.join(format!("{kind}-cert.pub"))
        } else {
            self.public(kind)
        }
    }

    /// An authority's public half.
    pub(super) fn authority(&self) -> PathBuf {
        self.directory.join("ca.pub")
    }
}

/// The shell that makes a healthy volume accept this kind of key.
pub(super) fn setup(kind: &str) -> &'static str {
    match kind {
        "build" => "",
        "cert-by-rsa" | "cert-sha1" => {
            "for f in $R/home/admin $R/root; do { printf 'cert-authority '; cat $KEYS/ca-rsa.pub; } > $f/.ssh/authorized_keys; done\n"
        }
        "cert-by-ecdsa" => {
            "for f in $R/home/admin $R/root; do { printf 'cert-authority '; cat $KEYS/ca-ecdsa.pub; } > $f/.ssh/authorized_keys; done\n"
        }
        "cert-trusted" => {
            "cp $CA $R/etc/ssh/ca; { echo 'TrustedUserCAKeys /etc/ssh/ca'; cat $C; } > $R/.n; cat $R/.n > $C; rm $R/.n; : > $R/home/admin/.ssh/authorized_keys; : > $R/root/.ssh/authorized_keys\n"
        }
        "cert-principals" => {
            "cp $CA $R/etc/ssh/ca; { echo 'TrustedUserCAKeys /etc/ssh/ca'; echo 'AuthorizedPrincipalsFile /etc/ssh/principals'; cat $C; } > $R/.n; cat $R/.n > $C; rm $R/.n; printf '# crew\\nother\\ncrew\\n' > $R/etc/ssh/principals; : > $R/home/admin/.ssh/authorized_keys; : > $R/root/.ssh/authorized_keys\n"
        }
        kind if kind.starts_with("cert") => {
            "for f in $R/home/admin $R/root; do { printf 'cert-authority '; cat $CA; } > $f/.ssh/authorized_keys; done\n"
        }
        _ => "cat $K > $R/home/admin/.ssh/authorized_keys; cat $K > $R/root/.ssh/authorized_keys\n",
    }
}
