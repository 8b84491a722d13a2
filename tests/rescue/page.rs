//! `--report`: the page of a run, from volumes whose names are made to break out of it, and the file that it goes to.

use crate::kit::program::{Run, repair, volrescue};
use crate::kit::volume::{Filesystem, Image, Table, Tree};
use crate::kit::{Scratch, USER, public_key};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) fn cases() -> Vec<Case> {
    type Trial = (&'static str, Needs, fn() -> Result<()>);
    let trials: &[Trial] = &[
        ("of-a-hostile-volume-has-no-markup-but-ours", Needs::Loop, hostile),
        ("tells-of-a-repair-and-how-to-undo-it", Needs::Loop, of_a_repair),
        ("replaces-only-an-earlier-page", Needs::Root, replaces_only_a_page),
        ("is-not-written-into-the-volume", Needs::Root, not_into_the_volume),
        ("tells-of-a-run-that-ended-early", Needs::Root, of_an_error),
        ("that-can't-be-written-at-the-end-is-an-error", Needs::Loop, no_room),
    ];
    trials.iter().map(|&(name, needs, run)| Case::new(format!("page::{name}"), needs, run)).collect()
}

fn diagnose(target: &Path, page: &Path, options: &[&str]) -> Result<Run> {
    let key = public_key()?;
    let mut words: Vec<&OsStr> = ["diagnose", "--user", USER, "--key"].map(OsStr::new).to_vec();
    words.extend([key.as_os_str(), OsStr::new("--report"), page.as_os_str()]);
    words.extend(options.iter().map(OsStr::new));
    words.push(target.as_os_str());
    volrescue(&words)
}

/// Elements with the names of their attributes, and the text, as an HTML parser sees them.
fn parsed(page: &Path) -> Result<(BTreeSet<String>, String)> {
    const PARSER: &str = r#"
import html.parser, sys
class Page(html.parser.HTMLParser):
    def handle_starttag(self, tag, attributes): print("T", tag, *sorted(name for name, _ in attributes))
    def handle_data(self, data): print("D", data.encode().hex())
page = Page(convert_charrefs=True)
page.feed(open(sys.argv[1], encoding="utf-8", newline="").read())
page.close()
"#;
    let output = Command::new("python3")
        .args(["-c", PARSER])
        .arg(page)
        .stdin(Stdio::null())
        .output()
        .context("python3")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut tags, mut text) = (BTreeSet::new(), Vec::new());
    for line in String::from_utf8(output.stdout)?.lines() {
        if let Some(tag) = line.strip_prefix("T ") {
            tags.insert(tag.to_owned());
        } else if let Some(data) = line.strip_prefix("D ") {
            for at in (0..data.len()).step_by(2) {
                text.push(u8::from_str_radix(&data[at..at + 2], 16)?);
            }
        }
    }
    Ok((tags, String::from_utf8(text)?))
}

/// All that a page may hold.
const OURS: &[&str] = &[
    "body",
    "bdi",
    "bdi title",
    "br",
    "code",
    "code class",
    "dd",
    "details",
    "div",
    "div class",
    "dl",
    "dl class",
    "dt",
    "figcaption",
    "figure",
    "footer",
    "h1 class",
    "h2",
    "h3",
    "head",
    "header",
    "html lang",
    "li",
    "li class",
    "main",
    "meta charset",
    "meta content http-equiv",
    "meta content name",
    "ol class",
    "p",
    "p class",
    "pre",
    "q",
    "section",
    "section class",
    "span class",
    "strong",
    "style",
    "summary",
    "table class",
    "td class",
    "title",
    "tr",
    "tr class",
    "ul class",
];

fn only_ours(page: &Path) -> Result<String> {
    let (tags, text) = parsed(page)?;
    let ours: BTreeSet<&str> = OURS.iter().copied().collect();
    for tag in &tags {
        ensure!(ours.contains(tag.as_str()), "<{tag}> is none of the page's own elements");
    }
    let bad = text.chars().find(|c| c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c));
    ensure!(bad.is_none(), "{bad:?} reaches the reader");
    Ok(text)
}

fn hostile() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    image.change(
        r#"
        n=$(printf '<img src=x onerror=alert(1)>"\047&amp;\033[2J\342\200\256\377\n<script>alert(2)<!--')
        mkdir "$R/srv/$n"; mv $H/.ssh "$R/srv/$n/keys"; ln -s "/srv/$n/keys" $H/.ssh; chmod 777 "$R/srv/$n"
        printf 'a"><b>\047&lt;:x:4321:\n' >>$R/etc/group; chgrp 4321 "$R/srv/$n"
        printf 'Bogus<i>"x" & \033[31m\n' >>$C
        sed -i '/^PRETTY_NAME/d' $R/etc/os-release; echo 'PRETTY_NAME="</title></style><script>alert(3)</script>"' >>$R/etc/os-release
        mkdir "$H/$n"; touch "$H/$n/$n"; chown -R 4321 "$H/$n"
        "#,
    )?;
    let page = image.scratch.join("page.html");
    diagnose(&image.path, &page, &["--explain"])?.expect(&[1])?;
    let text = only_ours(&page)?;
    let name = r#"<img src=x onerror=alert(1)>"'&amp;\x1b[2J\u{202e}\xff\x0a<script>alert(2)<!--"#;
    for words in [
        name,
        "a\"><b>'&lt;",
        "Bogus<i>",
        "</title></style><script>alert(3)</script>",
        "sshd refuses the login",
    ] {
        ensure!(text.contains(words), "{words} is not told\n{text}");
    }
    let state = image.scratch.join("state");
    let key = public_key()?;
    let words: [&OsStr; 10] = [
        "repair".as_ref(),
        "--yes".as_ref(),
        "--fix=all".as_ref(),
        "--user".as_ref(),
        USER.as_ref(),
        "--key".as_ref(),
        key.as_os_str(),
        "--state-dir".as_ref(),
        state.as_os_str(),
        "--report".as_ref(),
    ];
    let run =
        volrescue(&[&words[..], &[page.as_os_str(), image.path.as_os_str()]].concat())?.expect(&[0, 1])?;
    let text = only_ours(&page)?;
    ensure!(text.contains("entries of 4321") && text.contains(name), "{text}\n{}", run.transcript());
    Ok(())
}

fn of_a_repair() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    image.change("chmod -R 777 $H; chown -R 12345:12345 $H")?;
    let page = image.scratch.join("page.html");
    let option = format!("--report={}", page.display());
    let dry = repair(&image.path, &image.scratch, &["--dry-run", &option])?.expect(&[1])?.json()?;
    ensure!(dry.value["report"].as_str() == page.to_str(), "{}", dry.transcript());
    let text = only_ours(&page)?;
    for words in ["only shown (dry run)", "Planned, and not made", "by this plan"] {
        ensure!(text.contains(words), "{words} is not told\n{text}");
    }
    let done = repair(&image.path, &image.scratch, &[&option])?.expect(&[0])?.json()?;
    let text = only_ours(&page)?;
    let undo = format!("volrescue undo {}", done.run()?);
    let told = [
        "sshd accepts the login now",
        "Before",
        "After",
        "Authentication refused: bad ownership or modes for directory /home/admin",
        "home-writable-by-others",
        "12345:12345 → 1000:1000",
        "Changes made",
        &undo,
        "The volume is unmounted and clean.",
    ];
    for words in told {
        ensure!(text.contains(words), "{words} is not told\n{text}");
    }
    let facts = fs::metadata(&page)?;
    ensure!(facts.mode() & 0o7777 == 0o600, "{:o}", facts.mode());
    let again = repair(&image.path, &image.scratch, &["--fsck", &option])?.expect(&[0])?;
    let text = only_ours(&page)?;
    for words in ["Nothing had to change", "e2fsck", "nothing to mend"] {
        ensure!(text.contains(words), "{words} is not told\n{text}\n{}", again.transcript());
    }
    let left =
        fs::read_dir(image.scratch.path())?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    ensure!(!left.into_iter().any(|name| name.starts_with(".volrescue")), "a half-written page is left");
    Ok(())
}

fn replaces_only_a_page() -> Result<()> {
    let tree = Tree::healthy()?;
    tree.change("chmod 777 $H")?;
    let scratch = Scratch::new()?;
    let precious = scratch.join("precious.html");
    fs::write(&precious, "<!DOCTYPE html>\n<p>mine")?;
    let link = scratch.join("link.html");
    symlink(&precious, &link)?;
    let pipe = scratch.join("pipe.html");
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success(), "mkfifo");
    let nowhere = scratch.join("no/such/page.html");
    let before = tree.manifest()?;
    for page in [precious.as_path(), &link, &pipe, Path::new("/dev/null"), scratch.path(), &nowhere] {
        let option = format!("--report={}", page.display());
        let run = repair(&tree.path, &scratch, &[&option])?.expect(&[2])?;
        let message = run.json()?.value["error"]["message"].as_str().unwrap_or_default().to_owned();
        ensure!(message.contains(&page.display().to_string()), "{}", run.transcript());
    }
    ensure!(fs::read(&precious)? == b"<!DOCTYPE html>\n<p>mine", "it was overwritten");
    ensure!(tree.manifest()? == before, "the volume was changed though the report could not be written");
    // Of several targets there is no one page.
    let page = scratch.join("page.html");
    let option = format!("--report={}", page.display());
    let words = ["repair", "--yes", &option, "/nonexistent/1", "/nonexistent/2"];
    volrescue(&words)?.expect(&[2])?;
    repair(&tree.path, &scratch, &[&option])?.expect(&[0])?;
    let first = fs::metadata(&page)?.ino();
    diagnose(&tree.path, &page, &[])?.expect(&[0])?;
    ensure!(fs::metadata(&page)?.ino() != first, "an earlier page is replaced, not written over");
    only_ours(&page)?;
    Ok(())
}

fn not_into_the_volume() -> Result<()> {
    let tree = Tree::healthy()?;
    let before = tree.manifest()?;
    let run = diagnose(&tree.path, &tree.path.join("root/page.html"), &["--json"])?.expect(&[4])?;
    ensure!(run.stdout.contains("written into the volume"), "{}", run.transcript());
    ensure!(tree.manifest()? == before, "diagnose wrote into the volume");
    Ok(())
}

fn of_an_error() -> Result<()> {
    let scratch = Scratch::new()?;
    let page = scratch.join("page.html");
    let noise = scratch.join("noise.img");
    fs::write(&noise, vec![0x5a; 1 << 20])?;
    diagnose(&noise, &page, &[])?.expect(&[3])?;
    let text = only_ours(&page)?;
    ensure!(text.contains("The run ended early") && text.contains("noise.img"), "{text}");
    Ok(())
}

/// The work on the volume is done by then, and is told as ever; the exit status says that something is missing.
fn no_room() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    image.change("chmod 777 $H")?;
    let key = public_key()?;
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc"])
        .arg(
            r#"mkdir -p "$S/full" "$S/state"; mount -t tmpfs -o size=8k,mode=700 full "$S/full"
               exec "$P" repair --yes --json --user admin --key "$K" --state-dir "$S/state" --report "$S/full/page.html" "$I""#,
        )
        .envs([("S", image.scratch.path()), ("I", &image.path), ("K", &key)])
        .env("P", crate::kit::program::program())
        .stdin(Stdio::null())
        .output()?;
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(3), "{:?}\n{said}\n{told}", output.status);
    // The path decides where the line is broken.
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(told.contains("could not be written: No space left"), "{told}");
    let document: serde_json::Value = serde_json::from_str(&said)?;
    ensure!(document["report"].is_null() && document["users"][0]["verdict"] == "accept", "{said}");
    Ok(())
}
