//! `annals`, the command line of the store. Each command has one file and uses only the public API.

mod accept_loss;
mod append;
mod backup;
mod delete_stream;
mod deletion;
mod deletions;
mod export;
mod import;
mod index;
mod input;
mod log;
mod named;
mod output;
mod print;
mod read;
mod reading;
mod redact;
mod retain;
mod scavenge;
mod selection;
mod shell;
mod stat;
mod streams;
mod verify;
mod views;
mod trace;
mod truncate;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use shell::{Failure, Shell};

/// The embedded event store: one directory, no server.
#[derive(Parser)]
#[command(
    name = "annals",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes:\n  \
        0  success; also if the list is empty, or the reader of the output exits early (| head)\n  \
        1  the operation failed, verify found damage, or the named event or read model does not exist\n  \
        2  wrong usage\n\n\
        One process at a time can hold a store for writing; readers share it, but not with a writer. If another \
        process holds the store, a command waits up to two seconds for it. A command that only reads releases the \
        store while its output waits for a reader (| less).",
    after_long_help = "Exit codes:\n  \
        0  success; also if the list is empty, or the reader of the output exits early (| head)\n  \
        1  the operation failed, verify found damage, or the named event or read model does not exist\n  \
        2  wrong usage\n\n\
        One process at a time can hold a store for writing; readers share it, but not with a writer. If another \
        process holds the store, a command waits up to two seconds for it. A command that only reads releases the \
        store while its output waits for a reader (| less).\n\n\
        Examples:\n  \
        annals import bank.annals history.jsonl.gz\n  \
        annals append bank.annals account-123 MoneyDeposited '{\"amount\":1000}' --expected 1\n  \
        annals read bank.annals account-123\n  \
        annals log bank.annals --type MoneyDeposited --backward --limit 10 --json\n  \
        annals log bank.annals --tag customer:7 --follow\n  \
        annals stat bank.annals --json\n  \
        annals verify bank.annals\n  \
        annals backup bank.annals /mnt/backups/bank --verify\n  \
        annals restore /mnt/backups/bank bank.annals\n  \
        annals export bank.annals bank.jsonl.gz"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    shell: Shell,
}

#[derive(Subcommand)]
enum Command {
    Import(import::Args),
    Export(export::Args),
    Read(read::Args),
    Log(log::Args),
    Streams(streams::Args),
    Trace(trace::Args),
    Views(views::Args),
    Stat(stat::Args),
    Verify(verify::Args),
    Index(index::Args),
    Backup(backup::Args),
    Restore(backup::RestoreArgs),
    AcceptLoss(accept_loss::Args),
    Append(append::Args),
    Truncate(truncate::Args),
    DeleteStream(delete_stream::Args),
    Redact(redact::Args),
    Retain(retain::Args),
    Scavenge(scavenge::Args),
    Deletions(deletions::Args),
}

pub(crate) fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Import(args) => import::run(args, &cli.shell),
        Command::Export(args) => export::run(args, &cli.shell),
        Command::Read(args) => read::run(args, &cli.shell),
        Command::Log(args) => log::run(args, &cli.shell),
        Command::Streams(args) => streams::run(args, &cli.shell),
        Command::Trace(args) => trace::run(args, &cli.shell),
        Command::Views(args) => views::run(args, &cli.shell),
        Command::Stat(args) => stat::run(args, &cli.shell),
        Command::Verify(args) => verify::run(args, &cli.shell),
        Command::Index(args) => index::run(args, &cli.shell),
        Command::Backup(args) => backup::run(args, &cli.shell),
        Command::Restore(args) => backup::restore(args, &cli.shell),
        Command::AcceptLoss(args) => accept_loss::run(args, &cli.shell),
        Command::Append(args) => append::run(args, &cli.shell),
        Command::Truncate(args) => truncate::run(args, &cli.shell),
        Command::DeleteStream(args) => delete_stream::run(args, &cli.shell),
        Command::Redact(args) => redact::run(args, &cli.shell),
        Command::Retain(args) => retain::run(args, &cli.shell),
        Command::Scavenge(args) => scavenge::run(args, &cli.shell),
        Command::Deletions(args) => deletions::run(args, &cli.shell),
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output ended early.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // Standard error may be closed too.
            let _ = writeln!(std::io::stderr(), "annals: {failure}");
            failure.exit_code()
        }
    }
}
