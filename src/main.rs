//! The `corelane` command.

use std::process::ExitCode;

// Blocks and out buffers of many sizes come and go on every core; mimalloc keeps a heap for each
// thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    corelane::cli::run()
}
