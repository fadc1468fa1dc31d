//! Does one case once, for a simulator that counts instructions (`benches/instructions.py`).
//!
//! Without a name it lists the cases; with one it does the work once to warm up, and once in
//! `counted`, whose instructions are those that count.

mod cases;

use std::process::ExitCode;

use cases::Size;
use geotessera_core::threads;

/// The simulator counts while this runs.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn counted(call: &mut cases::Call) {
    call();
}

fn main() -> ExitCode {
    // `cargo bench` adds an option of its own.
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let cases = cases::all(Size::Small);
    let Some(wanted) = wanted else {
        for case in &cases {
            let threads = if case.threaded { "threaded" } else { "" };
            println!("{}\t{}\t{threads}", case.name, case.amount);
        }
        return ExitCode::SUCCESS;
    };
    let Some(case) = cases.iter().find(|case| case.name == wanted) else {
        eprintln!("no case is called {wanted}");
        return ExitCode::FAILURE;
    };
    threads::set(1).expect("one thread");
    let mut call = (case.prepare)();
    call();
    counted(&mut call);
    ExitCode::SUCCESS
}
