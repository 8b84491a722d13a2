//! The verdict against sshd's on volumes that are mutated at random: named mutations and drawn ones, one to six at once,
//! with login keys of several kinds. `scripts/differential` runs as many as one likes; a disagreement is shrunk to the
//! fewest mutations that still show it, and printed as a line for `differential/regressions.tsv`, which the ordinary
//! tests run.

mod generated;
mod keys;
pub(crate) mod round_trip;

use crate::kit::program::{Document, program, volrescue, volrescue_under};
use crate::kit::random::{Random, count};
use crate::kit::volume::Tree;
use crate::kit::{Scratch, judge, script_on_tree};
use crate::oracle::recipes;
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use keys::Keys;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const NAMED: &str = include_str!("differential/named.tsv");
const LARGE: &str = include_str!("differential/large.tsv");
const REGRESSIONS: &str = include_str!("differential/regressions.tsv");
const REPAIRS: &str = include_str!("differential/repairs.tsv");
const PRELUDE: &str = include_str!("differential/prelude.sh");
/// What no diagnosis may need: half a minute of processor time, half a GiB of memory.
const BOUNDS: &[&str] = &["prlimit", "--cpu=30", "--as=536870912"];
/// Volumes whose configuration a repair has edited, each asked with `sshd -t`.
static EDITED: AtomicUsize = AtomicUsize::new(0);
/// Between the mutations of a line of the regressions.
const THEN: &str = " ;;; ";

/// One change of a healthy volume.
#[derive(Clone, Debug)]
struct Mutation {
    touches: &'static str,
    name: String,
    shell: String,
}

/// Every mutation that has a name.
fn named() -> Vec<Mutation> {
    let own = NAMED.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut fields = line.splitn(3, '\t');
        let (touches, name, shell) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Mutation { touches, name: name.to_owned(), shell: shell.to_owned() })
    });
    let table = recipes().into_iter().filter(|recipe| recipe.id != "RF1").map(|recipe| Mutation {
        touches: match &recipe.id[..2] {
            "RF" => "modes",
            "RK" => "keys",
            "RP" => "account",
            "RC" => "config",
            _ => "start",
        },
        name: recipe.id.to_owned(),
        shell: recipe.shell.to_owned(),
    });
    own.chain(table).collect()
}

/// A volume to be judged.
#[derive(Clone, Debug)]
struct Trial {
    suite: String,
    login: &'static str,
    key: &'static str,
    mutations: Vec<Mutation>,
}

impl Trial {
    /// Drawn from the seed.
    fn drawn(suite: &str, seed: u64, named: &[Mutation]) -> Self {
        let mut random = Random::seeded(seed);
        let login = if random.below(8) == 0 { "root" } else { "admin" };
        let key = if random.below(3) == 0 { keys::KINDS[random.below(keys::KINDS.len())] } else { "build" };
        // Few at once more often: the first that refuses hides what the others do.
        let most = 1 + random.below(6);
        let mutations = (0..=random.below(most))
            .map(|_| match random.below(2) {
                0 => named[random.below(named.len())].clone(),
                _ => generated::mutation(&mut random),
            })
            .collect();
        Self { suite: suite.to_owned(), login, key, mutations }
    }

    /// As a line of the regressions.
    fn line(&self) -> String {
        let shells: Vec<&str> = self.mutations.iter().map(|mutation| mutation.shell.as_str()).collect();
        format!("{}\t{}\t{}\t{}", self.suite, self.login, self.key, shells.join(THEN))
    }

    fn volume(&self, keys: &Keys) -> Result<Tree> {
        let tree = Tree::of(&self.suite)?;
        let mut body = String::from("R=$ROOT C=$R/etc/ssh/sshd_config\n");
        body.push_str(if self.login == "root" {
            "U=root H=$R/root I=0 G=0\n"
        } else {
            "U=admin H=$R/home/admin I=1000 G=1000\n"
        });
        body.push_str("A=$H/.ssh/authorized_keys\nexport R U H A C I G K CA KEYS\n");
        body.push_str(keys::setup(self.key));
        let mut variables: Vec<(String, std::path::PathBuf)> = Vec::new();
        for (number, mutation) in self.mutations.iter().enumerate() {
            body.push_str(&format!("timeout --signal KILL 5 sh -c \"$M{number}\" >/dev/null 2>&1 || true\n"));
            variables.push((format!("M{number}"), format!("{PRELUDE}\n{}", mutation.shell).into()));
        }
        let public = keys.public(self.key);
        let authority = keys.authority();
        let mut all: Vec<(&str, &Path)> =
            vec![("ROOT", &tree.path), ("K", &public), ("CA", &authority), ("KEYS", keys.directory())];
        all.extend(variables.iter().map(|(name, value)| (name.as_str(), value.as_path())));
        script_on_tree(&body, &all).with_context(|| self.line())?;
        Ok(tree)
    }

    fn diagnose(&self, keys: &Keys, tree: &Tree) -> Result<Document> {
        let key = keys.offered(self.key);
        let mut arguments: Vec<&OsStr> =
            ["diagnose", "--json", "--from", "127.0.0.1,localhost", "--user", self.login, "--key"]
                .map(OsStr::new)
                .to_vec();
        arguments.push(key.as_os_str());
        arguments.push(tree.path.as_os_str());
        let document = volrescue_under(BOUNDS, &arguments)?.expect(&[0, 1])?.json()?;
        document.ensure_consistent()?;
        Ok(document)
    }

    fn judged(&self, keys: &Keys) -> Result<Judged> {
        let tree = self.volume(keys)?;
        let real = judge::login_with(&tree.path, self.login, &keys.private(self.key))?;
        let (ours, open, transcript) = match self.diagnose(keys, &tree) {
            Ok(document) => {
                let open = document.value["users"][0]["unknown"].to_string();
                (document.verdict()?.to_owned(), open, document.transcript().to_owned())
            }
            Err(error) => ("failed".to_owned(), String::new(), format!("{error:#}")),
        };
        let agreement = if ours == real.word() {
            Agreement::Agree
        } else if ours == "unknown" {
            Agreement::Open(open)
        } else {
            Agreement::Disagree
        };
        Ok(Judged { agreement, real: real.word(), ours, transcript, log: real.log })
    }

    /// Fails unless the verdicts are the same.
    fn agrees(&self) -> Result<()> {
        let judged = self.judged(&Keys::made()?)?;
        ensure!(judged.agreement == Agreement::Agree, "{}", self.told(&judged));
        Ok(())
    }

    /// Fails unless sshd accepts after a repair.
    fn mends(&self) -> Result<()> {
        let judged = self.repaired(&Keys::made()?)?;
        let accepts = judged.agreement == Agreement::Agree && judged.real == "accept";
        ensure!(accepts, "{}", self.told(&judged));
        Ok(())
    }

    /// Both verdicts, and how they came about.
    fn told(&self, judged: &Judged) -> String {
        let Judged { real, ours, transcript, log, .. } = judged;
        format!("sshd says {real}, we {ours}: {}\n{transcript}\n{log}", self.line())
    }

    /// Repairs everything that may be, and asks sshd again.
    fn repaired(&self, keys: &Keys) -> Result<Judged> {
        let tree = self.volume(keys)?;
        let scratch = Scratch::new()?;
        let key = keys.public(self.key);
        let repair = |options: &[&str]| {
            let state = scratch.join("state");
            let mut arguments: Vec<&OsStr> =
                ["repair", "--yes", "--json", "--from", "127.0.0.1,localhost", "--user", self.login]
                    .map(OsStr::new)
                    .to_vec();
            arguments.extend(["--fix", "all", "--create-user", "--key"].map(OsStr::new));
            arguments.push(key.as_os_str());
            arguments.push(OsStr::new("--state-dir"));
            arguments.push(state.as_os_str());
            arguments.extend(options.iter().map(OsStr::new));
            arguments.push(tree.path.as_os_str());
            volrescue(&arguments)
        };
        let took = judge::takes_its_configuration(&tree.path)?;
        let run = repair(&[])?;
        // What cannot be understood or is not safe to touch is told, and left.
        if ![0, 1].contains(&run.code) {
            let told = run.json().is_ok_and(|document| document.value["error"]["message"].is_string());
            let agreement = if told { Agreement::Agree } else { Agreement::Disagree };
            let ours = format!("exit status {}", run.code);
            return Ok(Judged {
                agreement,
                real: "refuse",
                ours,
                transcript: run.transcript(),
                log: String::new(),
            });
        }
        let document = run.json()?;
        let changed = document.actions("changed");
        let edited = changed.iter().any(|(_, path)| path.to_string_lossy().contains("sshd_config"));
        let takes = !edited || judge::takes_its_configuration(&tree.path)?;
        let real = judge::login_with(&tree.path, self.login, &keys.private(self.key))?;
        let now = self.diagnose(keys, &tree)?;
        let mut agreement =
            if now.verdict()? == real.word() { Agreement::Agree } else { Agreement::Disagree };
        let mut ours = now.verdict()?.to_owned();
        if ours == "unknown" {
            agreement = Agreement::Open(now.value["users"][0]["unknown"].to_string());
        }
        if !real.accepted {
            for finding in now.value["users"][0]["findings"].as_array().into_iter().flatten() {
                let class = finding["fixed_by"].as_str().unwrap_or_default();
                // Why the plan leaves it stands in its notes.
                let notes = document.value["notes"].as_array().into_iter().flatten();
                let path = finding["path"].as_str().unwrap_or_default();
                let told = |note: &str| note.contains(path) || note.contains("would be locked out");
                let named = notes.filter_map(serde_json::Value::as_str).any(told);
                if !named && finding["severity"] == "blocks" && !["nothing", "key"].contains(&class) {
                    ours = format!("refuse, though {} is for {class}", finding["check"]);
                    agreement = Agreement::Disagree;
                }
            }
        }
        if edited {
            EDITED.fetch_add(1, Ordering::Relaxed);
            if !takes && (took || real.accepted) {
                ours = "sshd -t refuses the edited configuration".into();
                agreement = Agreement::Disagree;
            }
        }
        let second = repair(&[])?.expect(&[0, 1])?.json()?;
        if !second.actions("changed").is_empty() {
            ours = format!("a second run changes {:?}", second.actions("changed"));
            agreement = Agreement::Disagree;
        }
        let transcript = format!("{}\n{}", document.transcript(), now.transcript());
        Ok(Judged { agreement, real: real.word(), ours, transcript, log: real.log })
    }

    /// The fewest mutations that still disagree.
    fn shrunk(mut self, disagrees: &impl Fn(&Self) -> bool) -> Self {
        let mut at = 0;
        while at < self.mutations.len() && self.mutations.len() > 1 {
            let mut fewer = self.clone();
            fewer.mutations.remove(at);
            if disagrees(&fewer) {
                self = fewer;
            } else {
                at += 1;
            }
        }
        if self.key != "build" {
            let plain = Self { key: "build", ..self.clone() };
            if disagrees(&plain) {
                return plain;
            }
        }
        self
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Agreement {
    Agree,
    Disagree,
    /// Our verdict is `unknown`, for this reason.
    Open(String),
}

struct Judged {
    agreement: Agreement,
    real: &'static str,
    ours: String,
    transcript: String,
    log: String,
}

/// The kept disagreements of the past, and each named mutation alone when `VOLRESCUE_NAMED` asks for it.
pub(crate) fn cases() -> Vec<Case> {
    let suites = std::env::var("VOLRESCUE_SUITES").unwrap_or_else(|_| "bookworm".into());
    let suites: Vec<&str> = suites.split(',').collect();
    let mut cases = Vec::new();
    for line in LARGE.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, shell)) = line.split_once('\t') else { continue };
        for suite in &suites {
            let mutation = Mutation { touches: "", name: String::new(), shell: shell.to_owned() };
            let suite = (*suite).to_owned();
            let name = format!("differential::{suite}::large-{name}");
            let trial = Trial { suite, login: "admin", key: "build", mutations: vec![mutation] };
            cases.push(Case::new(name, Needs::Root, move || trial.agrees()));
        }
    }
    for (suite, number, trial) in kept(REGRESSIONS, &suites) {
        let name = format!("differential::{suite}::regression-{number:03}");
        cases.push(Case::new(name, Needs::Root, move || trial.agrees()));
    }
    for (suite, number, trial) in kept(REPAIRS, &suites) {
        let name = format!("differential::{suite}::repair-{number:03}");
        cases.push(Case::new(name, Needs::Root, move || trial.mends()));
    }
    cases
}

/// The lines of a table that are for these suites: suite, line and volume.
fn kept(table: &str, suites: &[&str]) -> Vec<(String, usize, Trial)> {
    let mut trials = Vec::new();
    for (line, number) in table.lines().zip(1..).filter(|(line, _)| !line.starts_with('#')) {
        let mut fields = line.splitn(4, '\t');
        let (Some(of), Some(login), Some(key), Some(shells)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let mutation = |shell: &str| Mutation { touches: "", name: String::new(), shell: shell.to_owned() };
        for suite in suites.iter().filter(|suite| of == "all" || of.split(',').any(|of| of == **suite)) {
            let trial = Trial {
                suite: (*suite).to_owned(),
                login: if login == "root" { "root" } else { "admin" },
                key: keys::KINDS.iter().copied().find(|kind| *kind == key).unwrap_or("build"),
                mutations: shells.split(THEN).map(mutation).collect(),
            };
            trials.push(((*suite).to_owned(), number, trial));
        }
    }
    trials
}

/// `scripts/differential`: as many as asked, on all suites in turn; `true` if there was no disagreement.
pub(crate) fn run() -> Result<bool> {
    let total = count("VOLRESCUE_DIFFERENTIAL", 0);
    let suites = std::env::var("VOLRESCUE_SUITES").unwrap_or_else(|_| "bookworm,bullseye,trixie".into());
    let suites: Vec<&str> = suites.split(',').collect();
    let seed = std::env::var("VOLRESCUE_DIFFERENTIAL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(Random::fresh_seed);
    let repair = std::env::var_os("VOLRESCUE_DIFFERENTIAL_REPAIR").is_some();
    let alone = std::env::var_os("VOLRESCUE_DIFFERENTIAL_NAMED").is_some();
    let jobs = count("VOLRESCUE_DIFFERENTIAL_JOBS", 2);
    let keys = Keys::made()?;
    let named = named();
    let total = if alone { named.len() * suites.len() } else { total };
    eprintln!("{total} volumes, {} named mutations, seed {seed}, {}", named.len(), program().display());
    let tally = Mutex::new(BTreeMap::<(&str, String), usize>::new());
    let reasons = Mutex::new(BTreeMap::<String, usize>::new());
    let bad = AtomicUsize::new(0);
    let next = AtomicUsize::new(0);
    let ask = |trial: &Trial| if repair { trial.repaired(&keys) } else { trial.judged(&keys) };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= total {
                        break;
                    }
                    let suite = suites[number % suites.len()];
                    let trial = if alone {
                        let mutation = named[number / suites.len()].clone();
                        Trial { suite: suite.into(), login: "admin", key: "build", mutations: vec![mutation] }
                    } else {
                        Trial::drawn(suite, Random::seeded(seed.wrapping_add(number as u64)).next(), &named)
                    };
                    let mut trial = trial;
                    // What is repaired is a login by a plain key.
                    if repair && trial.key.starts_with("cert") {
                        trial.key = "build";
                    }
                    let judged = ask(&trial);
                    let word = match &judged {
                        Ok(Judged { agreement: Agreement::Agree, real, .. }) => format!("both {real}"),
                        Ok(Judged { agreement: Agreement::Open(why), .. }) => {
                            *lock(&reasons).entry(format!("{why}: {}", trial.line())).or_default() += 1;
                            "unknown".to_owned()
                        }
                        Ok(_) => "disagree".to_owned(),
                        Err(_) => "the kit failed".to_owned(),
                    };
                    *lock(&tally).entry((suite, word)).or_default() += 1;
                    let (trial, judged) = match judged {
                        Ok(judged) if judged.agreement != Agreement::Disagree => continue,
                        Ok(_) => {
                            let least = trial.shrunk(&|trial: &Trial| {
                                ask(trial).is_ok_and(|judged| judged.agreement == Agreement::Disagree)
                            });
                            let judged = ask(&least);
                            (least, judged)
                        }
                        Err(error) => (trial, Err(error)),
                    };
                    bad.fetch_add(1, Ordering::Relaxed);
                    let names: Vec<String> = trial
                        .mutations
                        .iter()
                        .map(|mutation| format!("{}/{}", mutation.touches, mutation.name))
                        .collect();
                    match judged {
                        Ok(judged) => println!(
                            "#{number} sshd: {}; ours: {}; {}\n{}\n{}\n{}\n",
                            judged.real,
                            judged.ours,
                            names.join(" "),
                            trial.line(),
                            indented(&judged.transcript),
                            indented(&judged.log),
                        ),
                        Err(error) => println!("#{number} the kit failed: {}\n{error:#}\n", trial.line()),
                    }
                }
            });
        }
    });
    for (why, number) in lock(&reasons).iter() {
        println!("unknown x{number} {why}");
    }
    for ((suite, word), number) in lock(&tally).iter() {
        println!("{suite:10} {word:15} {number}");
    }
    let bad = bad.load(Ordering::Relaxed);
    if repair {
        println!("sshd -t after an edit of its configuration: {} times", EDITED.load(Ordering::Relaxed));
    }
    println!("{total} volumes, seed {seed}: {bad} disagreements");
    Ok(bad == 0)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
