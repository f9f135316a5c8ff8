//! What the kernel says of running programs: memory and CPU time of a program and all that descends from it.

use std::time::Duration;

/// One running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub id: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its program's name, at most 15 bytes.
    pub name: String,
    /// CPU time of its own and of the children that it has reaped.
    pub cpu: Duration,
    /// Resident now, in bytes.
    pub resident_bytes: u64,
    /// Resident at most so far, in bytes.
    pub resident_max_bytes: u64,
}

/// The process `id` and its descendants that run now; empty when it has ended.
pub fn tree(id: u32) -> Vec<Process> {
    let entries: Vec<std::fs::DirEntry> =
        std::fs::read_dir("/proc").map(|entries| entries.flatten().collect()).unwrap_or_default();
    let ids = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: Vec<Process> = ids.filter_map(process).collect();
    let mut found: Vec<Process> = all.iter().filter(|process| process.id == id).cloned().collect();
    let mut next = 0;
    while let Some(of) = found.get(next).map(|process| process.id) {
        found.extend(all.iter().filter(|process| process.parent == of).cloned());
        next += 1;
    }
    found
}

/// CPU time of a program and all that descends from it, the reaped ones included.
pub fn cpu(id: u32) -> Duration {
    tree(id).iter().map(|process| process.cpu).sum()
}

/// CPU time of the children of this process that have ended and were waited for.
pub fn reaped_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    of_ticks(ticks(16) + ticks(17))
}

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

fn process(id: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name is in parentheses and may hold any byte.
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
    // As proc(5) numbers them: own user and system time, then that of the reaped children.
    let ticks: u64 = [14, 15, 16, 17].into_iter().filter_map(field).sum();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let kibibytes = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    };
    Some(Process {
        id,
        parent: u32::try_from(field(4)?).ok()?,
        name: name.to_owned(),
        cpu: of_ticks(ticks),
        resident_bytes: kibibytes("VmRSS:") * 1024,
        resident_max_bytes: kibibytes("VmHWM:") * 1024,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_its_children() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let found = tree(std::process::id());
        let this = found.first().expect("this process");
        assert!(this.resident_bytes > 1 << 20 && this.resident_max_bytes >= this.resident_bytes, "{this:?}");
        let sleeping = found.iter().find(|process| process.id == child.id()).expect("the child");
        assert_eq!(sleeping.parent, std::process::id());
        child.kill().expect("a signal");
        child.wait().expect("an end");
        assert_eq!(tree(child.id()), []);

        let before = cpu(std::process::id());
        let mut sum = 0u64;
        while cpu(std::process::id()) < before + Duration::from_millis(50) {
            sum = (0..100_000).fold(sum, u64::wrapping_add);
        }
        assert!(sum > 0);
    }
}
