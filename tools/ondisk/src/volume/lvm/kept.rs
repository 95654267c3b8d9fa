//! What is kept of the descriptions of groups that many devices carry. LVM writes the whole of it to every PV, so that the same
//! comes from each; and a disk may have a PV in each of its partitions that says as much as it can. Every description is
//! held once, and all together cost no more than a budget: beyond that the largest of the disk that says most is cut, so
//! that one bad disk hides no good one. The rest of a report is left as it is.

use super::group::{Group, SMALL};
use crate::format::DiskReport;
use crate::volume::Volume;
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Kept {
    /// Of what is not small, in bytes of JSON; in memory it is four times as much.
    budget: usize,
    spent: usize,
    known: Vec<Known>,
}

struct Known {
    group: Arc<Group>,
    /// 0: it is small.
    cost: usize,
    /// Which disk said it first.
    disk: Option<u64>,
}

impl Kept {
    /// `budget` is in bytes of JSON.
    pub fn new(budget: usize) -> Kept {
        Kept { budget, spent: 0, known: Vec::new() }
    }

    /// Takes in what a device of this disk says. Whoever adds asks for what is [`Kept::beyond`] then.
    pub fn add(&mut self, disk: Option<u64>, report: &mut DiskReport) {
        groups(report, &mut |group| {
            if let Some(known) = self.known.iter().find(|known| known.group == *group) {
                *group = Arc::clone(&known.group);
                return;
            }
            if let Some(own) = Arc::get_mut(group) {
                own.shrink();
            }
            let cost = Some(group.cost()).filter(|cost| *cost > SMALL).unwrap_or(0);
            self.spent += cost;
            self.known.push(Known { group: Arc::clone(group), cost, disk });
        });
    }

    /// What is to be [`cut`] from all reports that were added, until nothing is.
    pub fn beyond(&mut self) -> Option<Arc<Group>> {
        if self.spent <= self.budget {
            return None;
        }
        let mut said: BTreeMap<Option<u64>, usize> = BTreeMap::new();
        for known in &self.known {
            *said.entry(known.disk).or_default() += known.cost;
        }
        let most = |known: &Known| (said.get(&known.disk).copied(), known.cost);
        let (place, _) = self.known.iter().enumerate().max_by_key(|(_, known)| most(known))?;
        let known = self.known.swap_remove(place);
        self.spent -= known.cost;
        Some(known.group)
    }
}

/// Leaves of a group what is small, wherever a report has this very one.
pub fn cut<'r>(group: &Arc<Group>, reports: impl IntoIterator<Item = &'r mut DiskReport>) {
    let left = Arc::new(group.cut());
    for report in reports {
        groups(report, &mut |own| {
            if Arc::ptr_eq(own, group) {
                *own = Arc::clone(&left);
            }
        });
    }
}

fn groups(report: &mut DiskReport, each: &mut dyn FnMut(&mut Arc<Group>)) {
    for signature in &mut report.signatures {
        if let Some(Volume::Lvm(pv)) = &mut signature.volume
            && let Some(group) = &mut pv.group
        {
            each(group);
        }
    }
    for (_, section) in &mut report.sections {
        groups(section, each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signature;
    use crate::format::Usage;
    use crate::volume::lvm::{Kind, Logical, PhysicalVolume, Segment};

    /// Of so many volumes, of 200 bytes each.
    fn group(name: &str, lvs: usize) -> Group {
        let segment = Segment { start: 0, length: 1, kind: Kind::Error, on: Vec::new(), memory: 0 };
        let lv = |number: usize| Logical {
            name: format!("{name}-{number:05}"),
            uuid: "abcdef-ghij-klmn-opqr-stuv-wxyz-ABCDEF".to_string(),
            visible: true,
            writable: true,
            skipped: false,
            moving: false,
            segments: vec![segment.clone()],
        };
        Group {
            name: name.to_string(),
            uuid: format!("uuid of {name}"),
            seqno: 1,
            extent: 4 << 20,
            system_id: None,
            lock_type: None,
            exported: false,
            clustered: false,
            writable: true,
            pvs: Vec::new(),
            lvs: (0..lvs).map(lv).collect(),
            truncated: false,
        }
    }

    fn report(group: &Group) -> DiskReport {
        let (uuid, group) = (String::new(), Some(Arc::new(group.clone())));
        let pv = PhysicalVolume { uuid, size: 0, used: true, areas: Vec::new(), group, stores: Vec::new() };
        let signature = Signature::new("LVM2_member", Usage::Raid, 512);
        DiskReport {
            signatures: vec![Signature { volume: Some(Volume::Lvm(pv)), ..signature }],
            ..DiskReport::default()
        }
    }

    /// As a scan does.
    fn held(budget: usize, said: &[(u64, Group)]) -> Vec<Arc<Group>> {
        let mut kept = Kept::new(budget);
        let mut reports = Vec::new();
        for (disk, group) in said {
            let mut report = report(group);
            kept.add(Some(*disk), &mut report);
            reports.push(report);
            while let Some(group) = kept.beyond() {
                cut(&group, &mut reports);
            }
        }
        let mut held = Vec::new();
        reports.iter_mut().for_each(|report| groups(report, &mut |group| held.push(Arc::clone(group))));
        held
    }

    #[test]
    fn what_every_pv_of_a_group_says_is_held_once() {
        let (vg, other) = (group("vg", 200), Group { seqno: 2, ..group("vg", 200) });
        let said = [(1, vg.clone()), (2, vg.clone()), (3, other.clone()), (1, vg.clone()), (4, other)];
        // Twice as much as it takes, and a fifth of what five would.
        let held = held(2 * vg.cost(), &said);
        assert_eq!(
            held.iter().map(|group| (group.seqno, group.truncated)).collect::<Vec<_>>(),
            [(1, false), (1, false), (2, false), (1, false), (2, false)]
        );
        assert!(Arc::ptr_eq(&held[0], &held[1]) && Arc::ptr_eq(&held[0], &held[3]));
        assert!(Arc::ptr_eq(&held[2], &held[4]));
    }

    #[test]
    fn a_disk_that_says_too_much_hides_nothing_of_another() {
        let hostile = || (0..40).map(|number| (7, group(&format!("bad{number}"), 400)));
        let (good, small) = ((1, group("good", 450)), (7, group("small", 60)));
        let budget = 5 * group("good", 450).cost();
        let mut first = vec![good.clone(), small.clone()];
        first.extend(hostile());
        let mut last: Vec<(u64, Group)> = hostile().collect();
        last.extend([good, small]);
        for (label, said) in [("first", first), ("last", last)] {
            let held = held(budget, &said);
            assert_eq!(held.len(), said.len());
            let large: usize = held.iter().map(|group| group.cost()).filter(|cost| *cost > SMALL).sum();
            assert!(large <= budget && large > budget / 2, "{label}: {large}");
            for (held, (_, said)) in held.iter().zip(&said) {
                // Though it is the largest of all.
                let is_whole = **held == *said;
                let is_hostile = said.name.starts_with("bad");
                assert!(is_whole || (is_hostile && **held == said.cut()), "{label}: {}", said.name);
                assert_eq!((held.name.as_str(), held.truncated), (said.name.as_str(), !is_whole));
            }
        }
    }

    #[test]
    fn of_a_group_that_is_cut_a_list_of_pvs_is_left_that_is_short() {
        let pv = |number: usize| super::super::Physical {
            name: format!("pv{number}"),
            uuid: String::new(),
            device: None,
            size: 0,
            pe_start: 0,
            pe_count: 0,
            missing: false,
        };
        for (pvs, left) in [(3, 3), (10_000, 0)] {
            let vg = Group { pvs: (0..pvs).map(pv).collect(), ..group("vg", 1000) };
            let held = held(100, &[(1, vg)]);
            assert_eq!((held[0].pvs.len(), held[0].lvs.len(), held[0].truncated), (left, 0, true));
        }
    }
}
