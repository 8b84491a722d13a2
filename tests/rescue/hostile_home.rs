//! Volumes made to harm: the helper's own files stay what they were, there is a finding, and nothing hangs.

use crate::kit::program::{Run, repair, volrescue};
use crate::kit::volume::{Filesystem, Image, Table};
use crate::kit::{USER, public_key, script};
use crate::{Case, Needs};
use anyhow::{Result, ensure};

/// What is wrong, the checks of which one must be named, and files of the volume that no repair may touch.
struct Trap {
    name: &'static str,
    recipe: &'static str,
    checks: &'static [&'static str],
    untouched: &'static [&'static str],
}

const TRAPS: &[Trap] = &[
    Trap {
        name: "ssh-dir-a-link-to-etc",
        recipe: "rm -r $H/.ssh; ln -s /etc $H/.ssh",
        checks: &["link-outside-home"],
        untouched: &["/etc"],
    },
    Trap {
        name: "ssh-dir-a-link-out-by-dots",
        recipe: "rm -r $H/.ssh; ln -s ../../../../../../../../etc $H/.ssh",
        checks: &["link-outside-home"],
        untouched: &["/etc"],
    },
    Trap {
        name: "ssh-dir-a-link-to-root-of-another",
        recipe: "rm -r $H/.ssh; ln -s /root/.ssh $H/.ssh",
        checks: &["link-outside-home"],
        untouched: &["/root", "/root/.ssh", "/root/.ssh/authorized_keys"],
    },
    Trap {
        name: "key-file-a-link-to-shadow",
        recipe: "rm $A; ln -s /etc/shadow $A",
        checks: &["link-outside-home"],
        untouched: &["/etc/shadow"],
    },
    Trap {
        name: "key-file-a-hard-link-of-shadow",
        recipe: "rm $A; ln $R/etc/shadow $A",
        checks: &["key-file-hard-linked"],
        untouched: &["/etc/shadow"],
    },
    Trap {
        name: "key-file-a-link-to-proc",
        recipe: "rm $A; ln -s /proc/self/root/etc/shadow $A",
        checks: &["key-file-link-broken", "link-outside-home"],
        untouched: &["/etc/shadow"],
    },
    Trap {
        name: "key-file-a-fifo",
        recipe: "rm $A; mkfifo $A; chown $I:$G $A",
        checks: &["key-file-not-regular"],
        untouched: &[],
    },
    Trap {
        name: "key-file-a-disk",
        recipe: "rm $A; mknod $A b 254 0; chown $I:$G $A",
        checks: &["key-file-not-regular"],
        untouched: &[],
    },
    Trap {
        name: "key-file-without-end",
        recipe: "rm $A; mknod $A c 1 5; chown $I:$G $A",
        checks: &["key-file-not-regular"],
        untouched: &[],
    },
    Trap {
        name: "key-file-a-directory",
        recipe: "rm $A; mkdir $A; chown $I:$G $A",
        checks: &["key-file-not-regular"],
        untouched: &[],
    },
    Trap {
        name: "ssh-dir-a-fifo",
        recipe: "rm -r $H/.ssh; mkfifo $H/.ssh",
        checks: &["ssh-dir-not-directory"],
        untouched: &[],
    },
    Trap {
        name: "directory-loop",
        recipe: "mkdir -p $H/a/b; ln -s ../.. $H/a/b/up; ln -s . $H/a/here; chown -h 0:0 $H/a/b/up; chmod 777 $H",
        checks: &["home-writable-by-others"],
        untouched: &[],
    },
    Trap {
        name: "ssh-dir-a-link-to-itself",
        recipe: "rm -r $H/.ssh; ln -s .ssh $H/.ssh",
        checks: &["key-file-link-broken", "link-outside-home"],
        untouched: &[],
    },
    Trap {
        name: "home-of-slash-etc",
        recipe: "sed -i \"s#:/home/$U:#:/etc:#\" $R/etc/passwd",
        checks: &[],
        untouched: &["/etc/shadow", "/etc/hostname"],
    },
    Trap {
        name: "home-a-magic-link",
        recipe: "sed -i \"s#:/home/$U:#:/proc/1/root/etc:#\" $R/etc/passwd",
        checks: &["home-missing", "home-elsewhere"],
        untouched: &["/etc/shadow"],
    },
    Trap {
        name: "etc-an-absolute-link",
        recipe: "mv $R/etc $R/etc.real; ln -s /etc.real $R/etc; chmod 777 $H",
        checks: &["home-writable-by-others"],
        untouched: &[],
    },
    Trap {
        name: "etc-a-link-out-by-dots",
        recipe: "mv $R/etc $R/etc.real; ln -s ../../../../etc.real $R/etc; chmod 777 $H",
        checks: &["home-writable-by-others"],
        untouched: &[],
    },
    Trap {
        name: "names-that-drive-a-terminal",
        recipe: "n=$(printf '\\033[2J\\033]0;x\\007\\342\\200\\256'); mkdir \"$H/$n\"; touch \"$H/$n/$n\"; chown -R 12345 \"$H/$n\"; \
                 mv $H/.ssh \"$R/srv/$n\"; ln -s \"/srv/$n\" $H/.ssh; chmod 777 \"$R/srv/$n\"",
        checks: &["ssh-dir-writable-by-others", "directory-writable-by-others"],
        untouched: &[],
    },
    Trap {
        name: "deep-directories",
        recipe: "cd $H; for n in $(seq 300); do mkdir d; chown 0:0 d; cd d; done; cd /; chmod 777 $H",
        checks: &["home-writable-by-others"],
        untouched: &[],
    },
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = TRAPS
        .iter()
        .map(|trap| Case::new(format!("hostile::{}", trap.name), Needs::Loop, move || sprung(trap)))
        .collect();
    cases.push(Case::new("hostile::passwd-of-four-gigabytes", Needs::Loop, huge_passwd));
    cases
}

/// Every file of the helper that a volume could be out to get: content, mode, owner.
fn helper() -> Result<String> {
    script(
        "for place in /etc /root/.ssh /home; do
             [ ! -e $place ] || find $place -xdev -printf '%p %y %m %U:%G %s %l\\n'
             [ ! -e $place ] || find $place -xdev -type f -size -1000k -print0 | xargs -0 -r sha256sum --
         done | sort",
        &[],
    )
}

/// No character on the way to a terminal that could drive it. (JSON is for programs; it has its own escapes.)
fn harmless(run: &Run) -> Result<()> {
    let json = run.stdout.starts_with('{');
    for text in [&run.stdout, &run.stderr] {
        let drives = |c: char| {
            c.is_control() && c != '\n' && c != '\t' || !json && ('\u{202a}'..='\u{202e}').contains(&c)
        };
        let bad = text.chars().find(|c| drives(*c));
        ensure!(bad.is_none(), "{bad:?} reaches the terminal\n{:?}", run.transcript());
    }
    Ok(())
}

fn sprung(trap: &Trap) -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    image.change(trap.recipe)?;
    let before = helper()?;
    let real = image.login(USER)?;
    let found = crate::kit::program::diagnose(&image.path, USER)?;
    ensure!(
        found.verdict()? == real.word() || found.verdict()? == "unknown",
        "sshd says {}\n{}\n{}",
        real.word(),
        found.transcript(),
        real.log
    );
    let checks = found.all_checks();
    ensure!(
        trap.checks.is_empty() || trap.checks.iter().any(|check| checks.contains(check)),
        "none of {:?} among {checks:?}\n{}",
        trap.checks,
        found.transcript()
    );
    let key = public_key()?;
    harmless(&volrescue(&[
        "diagnose".as_ref(),
        "--user".as_ref(),
        USER.as_ref(),
        "--key".as_ref(),
        key.as_os_str(),
        image.path.as_os_str(),
    ])?)?;
    let was = image.manifest()?;
    let run = repair(&image.path, &image.scratch, &["--create-user"])?.expect(&[0, 1])?;
    harmless(&run)?;
    ensure!(helper()? == before, "the helper's files were changed\n{}", run.transcript());
    let is = image.manifest()?;
    for path in was.changes(&is).keys() {
        ensure!(
            !trap.untouched.iter().any(|untouched| path.to_str() == Some(untouched)),
            "{} was changed\n{}",
            path.display(),
            run.transcript()
        );
    }
    if run.code == 0 {
        let after = image.login(USER)?;
        ensure!(after.accepted, "says it is mended, but sshd refuses\n{}\n{}", run.transcript(), after.log);
    }
    image.check()
}

/// Sparse, so that it costs the attacker nothing.
fn huge_passwd() -> Result<()> {
    let image = Image::healthy(Filesystem::Xfs, Table::None)?;
    image.change("truncate -s 4G $R/etc/passwd")?;
    let run = volrescue(&[
        "diagnose".as_ref(),
        "--json".as_ref(),
        "--user".as_ref(),
        USER.as_ref(),
        image.path.as_os_str(),
    ])?
    .expect(&[1, 3])?;
    run.json()?;
    let run = repair(&image.path, &image.scratch, &["--create-user"])?.expect(&[1, 3, 5])?;
    run.json()?;
    image.check()
}
