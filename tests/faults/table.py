"""The table of faults: the promise for each fault, and the tests that prove it.

Many of the tests are elsewhere, beside those of the code that they test.  ``test_table.py`` fails
if a test of the table does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True)
class Fault:
    """One fault.

    :param tests: each is a file of ``tests/``, ``::`` and the name of a function.
    """

    name: str
    promise: str
    tests: tuple[str, ...]


_G5 = "guarantees/test_g5_isolation.py::test_"
_G7 = "guarantees/test_g7_closing.py::test_"
_G8 = "guarantees/test_g8_input.py::test_"
_SCARCE = "guarantees/test_g8_scarcity.py::test_"
_PEERS = "faults/test_peers.py::test_"
_OWN = "faults/test_own_troubles.py::test_"
_STRIKES = "interrupts/test_strikes.py::test_"
_REENTRY = "interrupts/test_reentry.py::test_"
_WHOLE = "faults/test_processes.py::test_"
_TLS = "faults/test_tls.py::test_"
_NET = "net/test_connection.py::test_"
_LIMITS = "hub/test_limits.py::test_"
_FLOODS = "hub/test_floods.py::test_"
_REDIS = "backplane/test_redis.py::test_"
_NODES = "backplane/test_redis_nodes.py::test_hub_"
_PRESENT = "backplane/test_redis_presence.py::test_"
_CLUSTER = "testing/test_cluster.py::test_cluster_"
_OWNED = "backplane/test_redis_owned.py::test_"
_ROOMS = "rooms/ticking/test_owned.py::test_"
_VIRTUAL = "testing/test_client.py::test_virtual_client_"


def _of(name: str, promise: str, *tests: str) -> Fault:
    return Fault(name, promise, tests)


FAULTS = (
    # Peers.
    _of("stops reading", "the others get all, memory is bounded, the policy applies",
        _G5 + "member_that_stops_reading_delays_nobody_and_meets_the_policy",
        _G5 + "member_that_stops_reading_costs_bounded_memory",
        _G5 + "client_that_takes_no_byte_is_cut_after_write_wait"),
    _of("reads a byte at a time", "the others get all; it stays while its system takes bytes",
        _VIRTUAL + "slow_reads_at_its_rate",
        _VIRTUAL + "one_byte_within_write_wait_is_enough",
        _VIRTUAL + "slow_stays_and_too_slow_overflows"),
    _of("trickles its request", "408 after handshake_timeout, over all of it",
        _PEERS + "peer_trickles_handshake_gets_408",
        _G8 + "request_incomplete_after_handshake_timeout_gets_408"),
    _of("trickles a frame", "read whole, or ended with 1008 after message_time",
        _LIMITS + "limit_message_time_closes_a_trickled_message",
        _LIMITS + "limit_message_time_is_counted_for_each_message"),
    _of("trickles a raw message", "the same; silence of pong_wait ends it in mid-message",
        _LIMITS + "limit_message_time_of_raw_peers_ends_them",
        "clients/test_raw_tcp.py::test_tcp_silent_in_message_ends_peer"),
    _of("vanishes without a FIN", "found by ping_timeout, or by write_wait if data waits",
        _PEERS + "machine_vanishes_is_found_out",
        _G5 + "client_that_answers_no_ping_is_cut_after_ping_timeout"),
    _of("resets", "ends as lost; one close callback",
        _NET + "connection_reset_is_lost",
        "guarantees/test_g2_client_order.py::test_client_ended_in_any_way_runs_close_once"),
    _of("closes its half", "ends properly, also within a request, frame or line",
        "serving/test_accept.py::test_arrival_ended_in_its_request_costs_nothing",
        _NET + "connection_end_of_stream_without_close_is_lost",
        "clients/test_raw_tcp.py::test_tcp_end_in_message_is_loss"),
    _of("floods messages", "read in slices; others and fan-outs run between them",
        "net/test_transport.py::test_transport_reads_many_small_messages_in_small_pieces",
        "core/test_push_log.py::test_push_log_fan_out_to_a_crowd_is_announced"),
    _of("floods messages without a handler", "one line of each kind, then their number",
        _FLOODS + "flood_of_unroutable_messages_is_one_line_of_each_kind",
        _FLOODS + "flood_line_of_a_wrong_payload_does_not_quote_it"),
    _of("storms with odd close codes", "one line for all codes",
        _FLOODS + "flood_of_odd_close_codes_is_one_line",
        _FLOODS + "flood_of_raw_peers_that_vanish_is_one_line"),
    _of("floods pings", "one pong waits, not all of them",
        _G8 + "pings_of_a_peer_that_does_not_read_cost_no_memory"),
    _of("100,000 fragments", "1009 beyond max_fragments",
        _PEERS + "peer_sends_100_000_fragments"),
    _of("compress bomb", "1009 before it is inflated",
        _G8 + "message_inflated_over_the_limit_gets_1009_and_costs_no_memory"),
    _of("bytes of any kind", "the right code or status; no other client notices",
        _G8 + "frames_breaking_protocol_or_limit_get_their_close_code",
        _G8 + "bytes_at_random_hurt_nobody_else"),
    _of("one address opens all", "429 beyond connections_per_address; others are accepted",
        _LIMITS + "limit_connections_per_address_refuses_with_429"),
    _of("exceeds its rate, or every limit", "each incident is counted, a flood is one line",
        _LIMITS + "limit_messages_per_second_closes_a_client_beyond_the_burst",
        _LIMITS + "limit_flood_of_bad_clients_is_two_lines"),
    _of("more than max_connections", "503; a place is free again when a client leaves",
        "serving/test_server.py::test_server_full_refuses_with_503"),
    _of("storm of reconnects", "a member that stays misses nothing; nothing is left over",
        _PEERS + "peers_reconnect_in_storm_leave_nothing",
        "net/test_listener.py::test_listener_lets_newcomers_wait_for_a_fan_out"),
    _of("crowd vanishes at once", "all are gone soon; a neighbour is served meanwhile",
        _PEERS + "crowd_vanishes_neighbour_is_served"),
    # The server's own.
    _of("no descriptors left", "the new connection is closed, one line, the rest goes on",
        _SCARCE + "descriptors_used_up_cost_the_connections_that_find_none"),
    _of("no threads left", "503 for the new connection, the rest goes on",
        _SCARCE + "threads_used_up_cost_one_connection_a_503",
        _NET + "connection_without_a_writer_thread_is_cut"),
    _of("log handler fails", "clients and hub go on",
        _OWN + "log_handler_raises_clients_and_hub_go_on",
        _OWN + "log_handler_raises_everywhere_hub_closes"),
    _of("log handler blocks", "the thread that logs waits, no other",
        "guarantees/test_g9_no_lock.py::test_log_handler_that_blocks_holds_up_no_other_client",
        _G7 + "close_while_a_log_handler_blocks_ends"),
    _of("handler blocks for ever", "only its client waits; close returns and names it",
        _G5 + "handler_that_blocks_delays_its_own_client_only",
        _G7 + "close_names_a_callback_that_does_not_end"),
    _of("handler raises", "logged once of each kind; the next message is handled",
        _FLOODS + "flood_of_one_exception_is_one_line_of_each_kind",
        _G8 + "message_without_a_handler_keeps_the_connection",
        "guarantees/test_g2_client_order.py::test_client_callback_raising_is_logged_and_the_next_one_runs"),
    _of("closure never ends", "clients are served; close returns and says so",
        _OWN + "closure_never_ends_hub_closes_in_time"),
    _of("tick never ends", "other rooms tick; close returns and says so",
        "guarantees/test_g10_few_threads.py::test_callback_that_blocks_holds_up_no_other_room",
        "rooms/ticking/test_loop.py::test_hub_close_times_out_on_a_room_that_does_not_end"),
    _of("callback ends its client, room or hub", "returns; the end is orderly",
        _OWN + "callback_ends_own_client_room_or_hub",
        _G7 + "close_called_again_waits_for_the_first"),
    _of("exception strikes inside a call", "the call has happened or not; all else goes on",
        _STRIKES + "signal_handler_that_raises_leaves_room_and_hub_alive"),
    _of("call inside a call", "returns at once, on a thread that is inside another call",
        _REENTRY + "signal_handler_pushes_inside_a_push_both_arrive",
        _REENTRY + "finaliser_that_logs_to_a_room_blocks_no_thread"),
    _of("fork in a handler", "clients and their ends stay with the parent",
        _WHOLE + "handler_forks_clients_stay", _WHOLE + "handler_starts_program_without_sockets"),
    _of("fork in a tick", "the rooms stay with the parent, and go on",
        "hub/test_fork.py::test_fork_in_a_tick_leaves_the_rooms_with_the_parent",
        "concurrency/test_crew.py::test_crew_thread_in_a_forked_child_runs_no_more_steps"),
    _of("fork, and a call in the child", "raises; close returns; the parent goes on",
        "hub/test_fork.py::test_hub_in_forked_child_refuses_each_call_that_would_go_nowhere",
        "hub/test_fork.py::test_hub_close_in_forked_child_returns_and_leaves_the_sockets_alone"),
    _of("hook is async, or returns a coroutine", "refused where it is given, or fails closed",
        "test_hooks.py::test_hook_that_would_not_run_is_refused_where_it_is_given",
        "test_hooks.py::test_hook_of_the_handshake_that_returns_a_coroutine_refuses_with_500"),
    _of("reads slowly while the hub closes", "gets all that waits, within the hub's deadline",
        _G7 + "close_client_that_reads_slowly_gets_all_that_waits",
        _G7 + "close_slow_reader_is_cut_near_the_deadline_of_the_hub"),
    _of("interpreter exit with clients", "at once, with its own status, without a traceback",
        _WHOLE + "interpreter_exits_with_clients_connected"),
    _of("SIGTERM under load", "all are told 1001; status 0",
        _WHOLE + "process_sigterm_under_load_tells_clients"),
    _of("clock jumps", "no decision depends on the wall clock",
        _OWN + "wall_clock_is_read_nowhere"),
    _of("process is stopped", "goes on: clients stay, a ticking room skips missed ticks",
        _WHOLE + "process_stopped_and_continued_keeps_clients"),
    # TLS.
    _of("TLS under load both ways", "whole and in order",
        "net/test_tls.py::test_tls_carries_both_directions_at_once"),
    _of("TLS certificate renewed", "used at once; no client is cut",
        _TLS + "renew_ssl_serves_new_handshakes_without_a_restart",
        _TLS + "sighup_reads_the_certificate_again"),
    _of("TLS handshake stalls", "closed after handshake_timeout",
        _TLS + "tls_stalled_handshake_ends_at_its_timeout"),
    _of("TLS stream ends badly", "its client ends, without a warning",
        _TLS + "tls_stream_end_of_any_kind_ends_its_client_only",
        _TLS + "tls_after_our_close_the_peer_may_still_send"),
    _of("TLS keys change, renegotiation", "goes on; is refused, without a warning",
        _TLS + "tls_key_update_keeps_the_connection", _TLS + "tls_renegotiation_is_refused"),
    # Shared rooms, and Redis.
    _of("Redis: any faults, in any order", "one order for all, each hole repaired or told",
        _CLUSTER + "members_see_one_order_and_are_told_each_hole_under_any_faults",
        _REDIS + "every_hub_sees_one_order_and_is_told_each_hole_under_faults"),
    _of("Redis is away, or stopped", "pushes wait, later ones are refused; clients stay",
        _REDIS + "pushes_wait_while_the_server_is_away_and_are_refused_later",
        _CLUSTER + "cut_hub_gets_what_it_missed_and_its_pushes_wait"),
    _of("Redis restarts", "another epoch; members are told once",
        _REDIS + "restart_of_the_server_begins_another_epoch_and_tells_one_gap",
        _PRESENT + "server_that_begins_anew_makes_no_change"),
    _of("a replica takes over", "no place is used twice, also while the old server goes on",
        _REDIS + "replica_that_takes_over_without_the_last_pushes_uses_no_place_twice",
        _CLUSTER + "failover_begins_an_epoch_and_members_are_told"),
    _of("answers of Redis are lost", "nothing is placed twice",
        _REDIS + "answers_that_are_lost_place_nothing_twice",
        _CLUSTER + "dropped_answer_places_nothing_twice"),
    _of("published pushes are lost", "fetched; members notice nothing",
        _CLUSTER + "dropped_push_is_fetched_without_a_gap"),
    _of("a connection to Redis is silent", "dropped by the hub's own beat",
        _REDIS + "connection_that_has_fallen_silent_is_dropped_by_its_own_beat"),
    _of("network of one hub is cut", "it is DOWN, the others go on; afterwards it misses nothing",
        _NODES + "whose_network_is_cut_finds_out_and_misses_nothing"),
    _of("way to Redis is slow", "batches grow; nothing is lost",
        _NODES + "with_a_slow_way_to_the_server_sends_larger_batches"),
    _of("a hub's process is stopped", "it catches up; its users leave once and come back",
        _NODES + "whose_process_is_stopped_catches_up_and_its_users_leave_once"),
    _of("a hub's process is killed", "its users leave once",
        _PRESENT + "hub_that_dies_takes_its_users_along_with_one_leave_each",
        _PRESENT + "hub_that_dies_with_the_server_takes_its_users_along"),
    _of("owner of a room: any faults, in any order", "one hub ticks; no push of a former owner",
        _ROOMS + "own_one_hub_ticks_and_pushes_under_any_faults",
        _ROOMS + "failed_server_that_forgets_the_owner_gives_the_room_to_no_hub_too_early"),
    _of("owner of a room is stopped in a tick", "another hub goes on; what it pushes has no place",
        _OWNED + "owner_that_was_stopped_in_a_tick_reaches_no_member_afterwards",
        _ROOMS + "pushes_of_a_hub_that_has_lost_the_room_reach_no_one"),
    _of("owner of a room is cut off", "stops a second before another hub goes on",
        _ROOMS + "cut_owner_stops_before_another_hub_goes_on_with_what_was_saved",
        _ROOMS + "owner_goes_on_if_no_hub_has_had_the_room_meanwhile"),
    _of("a push of 300 KB, or 33 MB", "fetched from the stream, or refused at the push",
        _REDIS + "large_messages_reach_other_hubs",
        _REDIS + "waiting_messages_and_the_size_of_one_are_bounded"),
)  # fmt: skip
"""All faults, in the order of the table."""
