//! The VM tests: the built image in QEMU, driven by the stock OpenSSH client. Each test is one
//! machine, and holds several promises against it; [`TESTS`] is the list.
//!
//!     cargo run -p image --bin vm-test -- [--all] [--shard I/N] [--again] [--list] [NAME...]
//!
//! Without names, the sample that touches each promise runs; `--all` runs every test. A test that has
//! passed on the same image is not run again unless `--again` says so. The last line is
//! `N passed, N failed`.

mod arrays;
mod bcache;
mod bench;
mod boot;
mod capture;
mod consoles;
mod disks;
mod ends;
mod firmware;
mod forms;
mod hardware;
mod identity;
mod kexec;
mod layers;
mod login;
mod names;
mod network;
mod overlay;
mod peers;
mod pending;
mod programs;
mod recipes;
mod runner;
mod serve;
mod services;
mod sessions;
mod sets;
mod traps;
mod trouble;
mod undo;
mod verbs;
mod volumes;
mod wrecks;

use anyhow::Result;
use bench::Bench;

/// One machine, and the promises that are held against it.
pub struct Test {
    pub name: &'static str,
    /// Part of `make test`; the rest is `make test-all`'s.
    pub sample: bool,
    /// What it reads below the project's root when it runs, beside the image: its result counts for that alone.
    pub reads: &'static [&'static str],
    pub run: fn(&Bench) -> Result<()>,
}

const fn sample(name: &'static str, run: fn(&Bench) -> Result<()>) -> Test {
    Test { name, sample: true, reads: &[], run }
}

const fn full(name: &'static str, run: fn(&Bench) -> Result<()>) -> Test {
    Test { name, sample: false, reads: &[], run }
}

impl Test {
    const fn reads(self, reads: &'static [&'static str]) -> Test {
        Test { reads, ..self }
    }
}

/// The image that Secure Boot starts.
const SIGNED: &[&str] = &["out-debian/initramfs", "out-debian/vmlinuz"];
/// The recipes.
const PAGE: &[&str] = &["docs/serve.md"];

/// The longest first, so that shards and jobs end together.
const TESTS: &[Test] = &[
    sample("a_broken_server_is_mended_and_sees_it_after_a_reboot", disks::mend),
    sample("nothing_is_written_until_a_person_asks_for_it", disks::unchanged),
    full("volumes_are_opened_and_activated_and_every_byte_stays", volumes::unchanged),
    full("every_set_of_disks_is_walked_through_and_every_byte_stays_1_of_3", sets::first),
    full("every_set_of_disks_is_walked_through_and_every_byte_stays_2_of_3", sets::second),
    full("every_set_of_disks_is_walked_through_and_every_byte_stays_3_of_3", sets::third),
    full("volumes_are_written_to_where_a_person_says_so", volumes::chosen),
    sample("overlays_are_written_and_no_disk_is", overlay::written),
    full("wrecks_are_mended_and_edited_on_overlays_alone", wrecks::mended),
    sample("known_traps_of_the_real_tools_are_told", traps::seen),
    sample("what_a_tired_person_types_is_answered_with_what_to_do", verbs::typed),
    full("arrays_of_every_kind_are_assembled", arrays::hotplug),
    full("what_bcache_caches_is_read_and_not_written", bcache::read),
    full("what_lvm_had_begun_is_read_and_not_gone_on_with", pending::read),
    full("netd_is_killed_at_every_state_and_keeps_its_addresses", peers::lives),
    full("what_a_person_asks_of_the_network_over_it_carries_a_login", peers::asked),
    full("networks_in_trouble_still_end_in_a_login", peers::trouble),
    full("bonds_and_bridges_carry_a_login", peers::stacks),
    full("leases_and_addresses_of_every_kind_carry_a_login", peers::leases),
    full("ipv6_of_every_kind_carries_a_login", peers::six),
    full("settings_of_disks_and_volumes_carry_a_login", peers::found),
    sample("a_lease_a_router_and_a_vlan_carry_a_login", peers::sample),
    full("sshfs_mounts_the_rescue_and_an_attack_does_not_keep_the_owner_out", peers::door),
    full("firmware_raid_is_read_and_not_written", firmware::read),
    full("what_was_just_written_is_kept_when_the_machine_goes_down", ends::written),
    full("a_way_down_waits_for_a_slow_disk", ends::slow),
    full("arrays_are_written_and_chosen_when_a_person_asks", arrays::asked),
    sample("what_a_command_wrote_is_put_back", undo::put_back),
    sample("a_stick_boots_with_secure_boot", forms::secure).reads(SIGNED),
    sample("every_card_and_controller_of_the_machine_brings_a_login_and_its_disk", hardware::all),
    full("every_form_boots", forms::every).reads(SIGNED),
    full("an_iso_takes_what_lies_beside_it_on_its_own_medium", forms::beside).reads(SIGNED),
    sample("an_efi_program_boots_by_uefi", forms::efi_program),
    full("an_efi_program_signed_by_an_operator_s_key_boots_with_secure_boot", forms::own_key),
    full("forms_that_are_made_twice_are_equal", forms::again),
    full("uefi_http_boot_ends_in_a_login", forms::http),
    full("make_serve_boots_what_is_on_its_wire", serve::served).reads(&[
        "image/src/main.rs",
        "out-debian/initramfs",
        "out-debian/vmlinuz",
    ]),
    full("the_page_s_recipes_for_dhcp_servers_boot", recipes::dhcp).reads(PAGE),
    full("the_page_s_recipes_for_ipxe_boot", recipes::scripts).reads(PAGE),
    full("the_page_s_recipe_for_libvirt_boots", recipes::libvirt).reads(PAGE),
    full("a_rescue_by_openstack_takes_the_key_of_the_config_drive", recipes::clouds),
    full("lifeboat_takes_over_from_a_running_debian", kexec::takes_over).reads(&["image/takeover"]),
    full("a_debian_under_secure_boot_is_taken_over_by_debian_s_kernel", kexec::secure).reads(&[
        "image/takeover",
        "out-debian/initramfs",
        "out-debian/vmlinuz",
    ]),
    sample("a_second_boot_has_another_host_key", login::two_boots),
    sample("the_host_is_known_on_every_screen_and_by_one_event", identity::told),
    sample("the_installed_system_s_host_key_is_served_where_asked_for", identity::installed),
    sample("a_host_key_and_a_certificate_that_were_made_before_make_the_host_known", identity::made),
    full("a_system_on_lvm_btrfs_or_xfs_has_its_host_key_served", identity::installed_elsewhere),
    sample("the_console_is_the_root_of_trust", login::trust),
    sample("without_a_key_the_console_shows_a_password", login::password),
    sample("a_volume_of_cloud_init_brings_its_key", login::volume),
    sample("a_hypervisor_hands_in_keys_by_smbios_and_fw_cfg", login::hypervisor),
    sample("killed_services_come_back", services::killed),
    sample("a_service_that_dies_again_and_again_burns_nothing", services::crash_loop),
    sample("sessions_behave_as_openssh_users_expect", sessions::everyday),
    sample("a_kept_session_outlives_its_line", sessions::kept),
    sample("every_program_that_people_type_starts", programs::start),
    full("the_full_image_has_every_layer_inside", programs::extras),
    full("large_copies_arrive_whole", sessions::large),
    sample("consent_opens_what_was_named_and_nothing_else", disks::consent),
    full("rescue_writable_turns_the_guard_off", disks::unguarded),
    full("a_captured_machine_looks_the_same_elsewhere", capture::elsewhere),
    sample("disks_are_known_by_the_names_that_udev_gives_them", names::disks),
    sample("an_appended_cpio_brings_keys_and_parameters", boot::appended),
    full("keys_by_https_come_by_a_ca_of_one_s_own", boot::https),
    full("cables_and_cards_come_and_go", network::cable),
    sample("a_pxe_boot_ends_in_a_login", boot::pxe),
    sample("a_nucleus_fetches_its_layers_in_160_mib", layers::fetched),
    full("a_nucleus_fetches_every_layer_in_192_mib", layers::everything),
    sample("layers_are_added_while_sessions_go_on", layers::added),
    sample("what_is_no_layer_of_the_image_is_refused_and_a_broken_line_is_gone_on_with", layers::refused),
    sample("the_nucleus_alone_is_a_way_in_with_128_mib", layers::alone),
    full("layers_come_over_tls_by_a_ca_of_one_s_own", layers::encrypted),
    full("a_lean_pxe_boot_fetches_its_layers_from_where_it_came", layers::lean),
    full("the_whole_image_boots_in_240_mib", layers::whole),
    sample("odd_command_lines_are_survived_and_named", boot::command_line),
    sample("a_truncated_layer_is_named", boot::truncated),
    full("keys_come_where_the_layers_do_not_fit", boot::short),
    sample("two_networks_answer_each_by_its_own_gateway", network::two),
    sample("without_network_and_disk_the_console_still_works", network::none),
    sample("a_hung_disk_holds_up_nothing_but_itself", trouble::hung),
    sample("a_slow_disk_and_a_failing_one_are_named_in_time", trouble::slow_and_failing),
    full("a_hung_virtio_disk_and_scsi_disk_together", trouble::hung_both),
    sample("a_serial_console_that_nobody_reads_holds_up_nothing", trouble::unread),
    full("consoles_that_nobody_named_are_found", consoles::found),
    sample("damaged_disks_are_named_and_hurt_nobody", trouble::damaged),
];

fn main() -> std::process::ExitCode {
    runner::main(TESTS)
}
