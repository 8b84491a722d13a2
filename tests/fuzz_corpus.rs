//! The corpus of the fuzz targets (`tests/fuzz`), fed to the same code as they feed it to, without a fuzzer.

#![expect(clippy::disallowed_methods, clippy::panic, reason = "the corpus lies beside the test")]

#[path = "fuzz/targets.rs"]
mod targets;

use std::path::Path;

#[test]
fn every_target_takes_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (target, _) in targets::TARGETS {
        let mut files = 0;
        for entry in std::fs::read_dir(corpus.join(target)).expect("a corpus") {
            let path = entry.expect("an entry").path();
            let data = std::fs::read(&path).expect("a readable file");
            let fed = std::panic::catch_unwind(|| targets::feed(target, &data));
            assert!(fed.is_ok(), "{}", path.display());
            files += 1;
        }
        assert!(files >= 5, "{target} has {files} files");
    }
}
