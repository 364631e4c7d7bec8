//! `corelane passwd`: users and their hashed passwords in a file.
//!
//! Invariants worth naming:
//! * the file is replaced as a whole or not at all, and keeps its mode; a new one is for its owner
//!   alone;
//! * a password is never an argument, never shown and never written.

use super::args::PasswdArgs;
use super::print;
use super::refusal::Refusal;
use crate::access::{Edit, HashedPassword, ScramHash, ScramKeys, Users, edited, prepared};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Longest password of MQTT.
const MOST_BYTES: u64 = 65_535;

/// Changes one user.
///
/// # Errors
/// The file can't be read or written or has faults, or no password was given.
pub fn run(args: &PasswdArgs) -> Result<(), Refusal> {
    let (text, mode) = read(&args.file)?;
    Users::parse(&text)
        .map_err(|faults| Refusal::listed(&args.file.display().to_string(), &faults))?;
    let hashed = if args.delete { None } else { Some(hash(args, &password()?)?) };
    let edit = match &hashed {
        Some(password) => Edit::Set { password, groups: args.groups.as_deref() },
        None => Edit::Delete,
    };
    let wrong = |what| Refusal::new(format!("{}: {what}", args.user), "choose another name");
    let (new, was_there) = edited(&text, &args.user, edit).map_err(wrong)?;
    if args.delete && !was_there {
        let file = args.file.display();
        return Err(Refusal::new(
            format!("{file} has no user {}", args.user),
            "name one of its users",
        ));
    }
    Users::parse(&new).map_err(|faults| Refusal::listed("the new line", &faults))?;
    replace(&args.file, &new, mode).map_err(|error| {
        let file = args.file.display();
        let remedy = "make its directory writable, or end what else changes it";
        Refusal::new(format!("{file} can't be replaced: {error}"), remedy)
    })?;
    let done = match (args.delete, was_there) {
        (true, _) => "deleted",
        (false, true) => "changed",
        (false, false) => "created",
    };
    print(&format!("{} {done}; SIGHUP makes a running broker read the file again\n", args.user))
}

/// The file and its mode; an empty one for its owner alone where there is none.
fn read(path: &Path) -> Result<(String, u32), Refusal> {
    let text = File::open(path).and_then(|mut file| {
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok((text, file.metadata()?.permissions().mode()))
    });
    match text {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((String::new(), 0o600)),
        Err(error) => {
            let message = format!("{} can't be read: {error}", path.display());
            Err(Refusal::new(message, "name a password file"))
        }
        Ok(read) => Ok(read),
    }
}

/// Writes beside `path` and puts it in its place. The name is taken while that lasts, so that two
/// at a time don't undo each other.
fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // What is left of it is of no use to anybody.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn hash(args: &PasswdArgs, password: &[u8]) -> Result<HashedPassword, Refusal> {
    let scram = ScramHash::of_method(&args.form.to_uppercase());
    if scram.is_some() && prepared(&args.user) != args.user {
        let message = format!("{}: SCRAM compares names in another form", args.user);
        let remedy = format!("create {}", prepared(&args.user));
        return Err(Refusal::new(message, remedy));
    }
    let mut salt = [0; 16];
    let filled = rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(16) => Ok(match scram {
            Some(hash) => HashedPassword::scram(ScramKeys::new(hash, password, salt)),
            None => HashedPassword::new(password, salt),
        }),
        _ => Err(Refusal::new("the kernel gives no random bytes", "try again")),
    }
}

/// The password: asked for twice on a terminal, else the first line of standard input.
fn password() -> Result<Vec<u8>, Refusal> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let first = ask("Password: ")?;
        if ask("The same again: ")? != first {
            return Err(Refusal::new("the two passwords differ", "try again"));
        }
        first
    } else {
        line(&mut stdin.lock())?
    };
    if password.is_empty() {
        return Err(Refusal::new("the password is empty", "give one on standard input"));
    }
    Ok(password)
}

fn ask(question: &str) -> Result<Vec<u8>, Refusal> {
    let stdin = io::stdin();
    let unusable = |error: io::Error| Refusal::new(format!("the terminal: {error}"), "use a pipe");
    let before: Termios = tcgetattr(&stdin).map_err(|errno| unusable(errno.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // To the other stream, so that output can be used by a program.
    let _ = write!(io::stderr(), "{question}");
    let _ = io::stderr().flush();
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|errno| unusable(errno.into()))?;
    let answer = line(&mut stdin.lock());
    tcsetattr(&stdin, OptionalActions::Flush, &before).map_err(|errno| unusable(errno.into()))?;
    let _ = writeln!(io::stderr());
    answer
}

fn line(input: &mut impl BufRead) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let read = input.take(MOST_BYTES + 2).read_until(b'\n', &mut bytes);
    read.map_err(|error| Refusal::new(format!("standard input: {error}"), "try again"))?;
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r'));
    bytes.truncate(end.map_or(0, |end| end + 1));
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Refusal::new(
            "the password is longer than MQTT allows",
            "use 65,535 bytes at most",
        ));
    }
    Ok(bytes)
}
