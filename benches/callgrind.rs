//! Running the present program again under valgrind's callgrind.

use std::path::Path;
use std::process::Command;

/// Runs this program with `arguments` under callgrind, which writes its profile, with
/// the linker's names, to `out`; gives what callgrind said.
///
/// # Panics
/// When there is no valgrind.
pub fn run(arguments: &[&str], out: &Path) -> String {
    let program = std::env::current_exe().expect("this program has a path");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no", "--demangle=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(arguments)
        .output()
        .expect("valgrind is installed");
    String::from_utf8_lossy(&run.stderr).into_owned()
}
