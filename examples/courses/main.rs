//! Students enrol in courses from several threads: a decision over tags, on disk.
//!
//! `cargo run --release --example courses [PATH]` keeps the store at `PATH`; without it, in a
//! temporary directory. At the end, one pass over the log checks that no rule was broken.

#![expect(clippy::print_stdout, reason = "an example talks")]

mod courses;

use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use annals::prelude::*;
use courses::{Course, Office, Refused, Student, check};

const THREADS: u32 = 8;
const STUDENTS: u32 = 40;
const COURSES: u32 = 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let path = std::env::args().nth(1).map(PathBuf::from);
    let store = Store::open(path.unwrap_or_else(|| directory.path().join("courses.annals")))?;
    run(&store)?;
    store.close()?;
    Ok(())
}

fn run(store: &impl EventStore) -> Result<(), Failure> {
    let office = Office::new(store);
    for number in 1..=COURSES {
        match office.define(&format!("c{number}"), 10 + number) {
            Err(error) if error.rejected() != Some(&Refused::Exists) => return Err(error.into()),
            _ => {}
        }
    }
    office.set_limit("s1", 15)?;

    let start = Instant::now();
    let (mut accepted, mut refused, mut retries) = (0, 0, 0);
    thread::scope(|scope| {
        let tasks: Vec<_> = (0..THREADS)
            .map(|at| {
                scope.spawn({
                    let office = office.clone();
                    move || enrol_all(&office, at)
                })
            })
            .collect();
        for task in tasks {
            let counts = task.join().map_err(|_| "a thread has failed")??;
            accepted += counts[0];
            refused += counts[1];
            retries += counts[2];
        }
        Ok::<_, Failure>(())
    })?;
    let per_second = f64::from(accepted + refused) / start.elapsed().as_secs_f64();
    println!(
        "{accepted} enrolments, {refused} refused, {retries} decided again: {per_second:.0}/s"
    );

    let course = office.decisions.read(Course::new("c1"))?;
    println!("course c1 has {} of {:?} places taken", course.enrolled, course.capacity);
    let student = office.decisions.read(Student::new("s1"))?;
    println!("student s1 has {} of {} courses", student.courses, student.limit);
    println!("checked {} enrolments in the log", check(store)?);
    Ok(())
}

/// Enrols every student in every course, each thread in another order. Half of the requests are
/// sent by two threads.
fn enrol_all(office: &Office, thread: u32) -> Result<[u32; 3], Failure> {
    let mut counts = [0, 0, 0];
    for step in 0..STUDENTS * COURSES {
        let pair = (step * 7 + thread * 101) % (STUDENTS * COURSES);
        let (course, student) = (pair % COURSES + 1, pair / COURSES + 1);
        let request = format!("{course}-{student}-{}", thread / 2);
        if course == 1 && step % 50 == thread {
            office.resize("c1", 11 + thread % 3)?;
        }
        match office.enrol(&format!("c{course}"), &format!("s{student}"), &request) {
            Ok(done) if done.is_retry() => {}
            Ok(done) => (counts[0], counts[2]) = (counts[0] + 1, counts[2] + done.retries()),
            Err(error) if error.is_rejected() => counts[1] += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(counts)
}
