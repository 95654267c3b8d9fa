//! Copies in memory: what the kernel would write to as it starts is started from overlays of every member, to be
//! read. What is decided is in `model::overlay`; here the overlays are made, and dropped where nothing came of them.

use crate::apply::Door;
use crate::report::notice;
use crate::scan::Scan;
use crate::tool::Context;
use model::overlay::{self, Plan, Refusal};
use model::plan::Step;
use model::storage::{Id, Storage};
use std::collections::BTreeSet;

/// The overlays of these members, as a plan.
pub fn plan(context: &Context, storage: &Storage, members: &[Id]) -> Result<Plan, Refusal> {
    overlay::for_assembly(storage, members, host::proc::available_memory(&context.root))
}

/// Makes them, and looks at everything again.
pub fn lay(context: &Context, typed: &str, plan: &Plan) -> anyhow::Result<Storage> {
    Door::open(context, typed)?.make_all(&plan.steps)?;
    Ok(Scan::begin(context).examine(|_| true))
}

/// Drops the overlays that nothing stands on; returns whether there were some.
pub fn clear(context: &Context, typed: &str) -> bool {
    // What belongs together is seen on the overlays themselves.
    let storage = Scan::begin(context).examine(|block| block.dm.is_some());
    let plan = overlay::left_by_assembly(&storage, &BTreeSet::new());
    if plan.overlays.is_empty() {
        return false;
    }
    let dropped = Door::open(context, typed).and_then(|mut door| door.make_all(&plan.steps));
    if let Err(error) = &dropped {
        notice(context.name, &format!("an overlay is left, and rescue overlay --drop ends it: {error:#}"));
    }
    dropped.is_ok()
}

/// The path that stands for an original once the plan is made.
pub fn path_of(plan: &Plan, original: &str) -> Option<String> {
    plan.overlays.iter().find(|(_, of)| of == original).map(|(path, _)| path.clone())
}

/// A start step, with the members that the plan makes: for a dry run.
pub fn with_overlays(plan: &Plan, step: Step) -> Step {
    match step {
        Step::MdStart(mut start) => {
            for member in &mut start.members {
                if let Some(path) = path_of(plan, &member.path) {
                    member.path = path;
                }
            }
            Step::MdStart(start)
        }
        other => other,
    }
}

/// What a person is told, in one line, after "/dev/md0 is ".
pub fn told(why: &str, stop: &str) -> String {
    format!(
        "a copy in memory, to be read ({why}): the disks are not written; rescue assemble --stop {stop} drops it"
    )
}

/// Why there is none. The same for arrays and volumes.
pub fn refused(why: &str, refusal: &Refusal) -> String {
    format!("{why}; there can be no copy in memory: {refusal}")
}

/// What to type where there is no room for a copy, or something of the same group is in its way.
pub fn advice(refusal: &Refusal, group: Option<&str>, writable: &str) -> Option<String> {
    match refusal {
        Refusal::InUse { .. } => {
            group.map(|group| format!("rescue assemble --stop {group} && rescue assemble {group}"))
        }
        Refusal::Memory(_) => Some(format!("rescue assemble --rw {writable}, which writes to the disks")),
        Refusal::StoreFull
        | Refusal::Overlaid { .. }
        | Refusal::Hangs(_)
        | Refusal::NoNode(_)
        | Refusal::Empty(_)
        | Refusal::IsOverlay(_)
        | Refusal::RunsForWriting { .. }
        | Refusal::JournalElsewhere(_)
        | Refusal::None(_)
        | Refusal::Consent(_) => None,
    }
}
