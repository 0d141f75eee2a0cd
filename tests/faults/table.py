"""The faults, what is promised of each, and the tests that hold it, here and elsewhere.

Most were held before there was this suite: they stand where the code is that they hold.  A
test that is named here and not there fails ``tests/faults/test_table.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True)
class Fault:
    """One fault; ``tests`` are files of ``tests/``, with ``::`` and the name of a function."""

    name: str
    promise: str
    tests: tuple[str, ...]


_G5 = "guarantees/test_g5_isolation.py::test_"
_G7 = "guarantees/test_g7_closing.py::test_"
_G8 = "guarantees/test_g8_input.py::test_"
_SCARCE = "guarantees/test_g8_scarcity.py::test_"
_PEERS = "faults/test_peers.py::test_"
_OWN = "faults/test_own_troubles.py::test_"
_WHOLE = "faults/test_processes.py::test_"
_TLS = "faults/test_tls.py::test_"
_NET = "net/test_connection.py::test_"
_LIMITS = "hub/test_limits.py::test_"
_FLOODS = "hub/test_floods.py::test_"
_VIRTUAL = "testing/test_client.py::test_virtual_client_"


def _of(name: str, promise: str, *tests: str) -> Fault:
    return Fault(name, promise, tests)


FAULTS = (
    # Peers.
    _of("stops reading", "the others get all, memory is bounded, the policy applies",
        _G5 + "a_member_that_stops_reading", _G5 + "memory_stays_bounded",
        _G5 + "a_stalled_client_is_cut_after_write_wait"),
    _of("reads a byte at a time", "others get all; stays while its system takes something",
        _PEERS + "a_peer_that_reads_byte_by_byte",
        _VIRTUAL + "slow_reads_at_its_rate",
        _VIRTUAL + "one_byte_within_write_wait_is_enough",
        _VIRTUAL + "slow_stays_and_too_slow_overflows"),
    _of("trickles its request", "408 after handshake_timeout, over all of it",
        _PEERS + "a_handshake_that_trickles",
        _G8 + "a_request_that_does_not_come_to_an_end_gets_408"),
    _of("trickles a frame", "read whole, or ended with 1008 after message_time",
        _PEERS + "a_frame_that_trickles", _LIMITS + "message_time",
        _LIMITS + "message_time_is_that_of_each_message"),
    _of("trickles a raw message", "the same; silence of pong_wait ends it in mid-message",
        _PEERS + "a_raw_message_that_trickles",
        "clients/test_raw_tcp.py::test_half_a_message_and_then_silence"),
    _of("vanishes without a FIN", "found by ping_timeout, or write_wait if data waits",
        _PEERS + "a_machine_that_vanishes", _G5 + "a_silent_client_is_cut_after_ping_timeout"),
    _of("resets", "ends as lost; one close callback",
        _NET + "connection_reset_is_lost",
        "guarantees/test_g2_client_order.py::test_close_comes_exactly_once"),
    _of("closes its half", "ends in order, wherever in a request, frame or line",
        _G8 + "a_request_that_stops_is_let_go",
        _NET + "connection_end_of_stream_without_close_is_lost",
        "clients/test_raw_tcp.py::test_half_a_message_and_then_the_end"),
    _of("floods messages", "read in slices, between which others and fan-outs go first",
        "net/test_transport.py::test_transport_reads_many_small_messages_in_small_pieces",
        "core/test_push_log.py::test_a_fan_out_to_many_is_let_through"),
    _of("floods messages that fit nothing", "one line of each kind, then how many more",
        _FLOODS + "messages_that_reach_no_handler",
        _FLOODS + "what_others_say_of_a_message_is_not_told"),
    _of("storms with odd close codes", "one line, whatever the codes",
        _FLOODS + "peers_that_close_with_odd_codes", _FLOODS + "raw_peers_that_vanish"),
    _of("floods pings", "one pong waits, not all of them",
        _G8 + "a_reader_of_pings_only_costs_no_memory",
        _NET + "connection_pings_do_not_overflow_the_outbox"),
    _of("100,000 fragments", "1009 beyond max_fragments",
        _PEERS + "a_hundred_thousand_fragments"),
    _of("compress bomb", "1009 before it is inflated",
        _G8 + "an_inflated_message_over_the_limit_is_1009_and_costs_no_memory"),
    _of("bytes of any kind", "the right code or status, and nobody else notices",
        _G8 + "frames_that_break_the_protocol_or_a_limit",
        _G8 + "random_bytes_hurt_nobody_else"),
    _of("one address opens all", "429 beyond connections_per_address, others come in",
        _LIMITS + "connections_of_an_address"),
    _of("talks too much, or breaks every limit", "each strike is counted, a flood is one line",
        _LIMITS + "messages_per_second", _LIMITS + "a_flood_of_bad_clients_is_two_lines"),
    _of("more than max_connections", "503, and a place again when one has gone",
        "serving/test_server.py::test_a_full_server_turns_away_with_503",
        "net/test_listener.py::test_listener_over_the_limit_answers_503_until_one_leaves"),
    _of("storm of reconnects", "a member who stays misses nothing, nothing is left",
        _PEERS + "a_storm_of_reconnects",
        "net/test_listener.py::test_listener_lets_newcomers_wait_for_a_fan_out"),
    _of("crowd vanishes at once", "all are gone soon, a neighbour is served meanwhile",
        _PEERS + "a_crowd_that_vanishes_at_once"),
    # The server's own.
    _of("no descriptors left", "who finds none is closed, one line, the rest goes on",
        _SCARCE + "descriptors_used_up_cost_the_connections_that_find_none"),
    _of("no threads left", "503 for who finds none, the rest goes on",
        _SCARCE + "a_thread_that_cannot_be_started_costs_one_connection_a_503",
        _NET + "connection_without_a_writer_thread_is_cut"),
    _of("log handler fails", "clients and hub go on",
        _OWN + "a_log_handler_that_fails", _OWN + "a_log_handler_that_fails_at_every_level"),
    _of("log handler blocks", "who logs waits, nobody else",
        _OWN + "a_log_handler_that_blocks"),
    _of("handler blocks for ever", "only its client waits; close returns and names it",
        _OWN + "handlers_that_never_end", _G7 + "a_callback_that_does_not_end_is_named"),
    _of("handler raises", "logged, once of a kind, and the next message is handled",
        _FLOODS + "what_a_user_s_function_raises",
        _G8 + "messages_that_no_handler_takes_keep_the_connection",
        "guarantees/test_g2_client_order.py::test_a_callback_that_raises_does_not_end_the_order"),
    _of("closure never ends", "clients are served; close returns and says so",
        _OWN + "a_closure_that_never_ends"),
    _of("callback ends its client, room or hub", "returns, and the end is orderly",
        _OWN + "a_callback_ends_what_it_stands_on",
        _OWN + "threads_that_close_and_use_a_hub_at_once"),
    _of("fork in a handler", "clients and their ends stay the parent's",
        _WHOLE + "a_fork_in_a_handler", _WHOLE + "a_program_that_a_handler_starts"),
    _of("interpreter exit with clients", "at once, own status, no traceback",
        _WHOLE + "an_interpreter_ends_with_clients_connected"),
    _of("SIGTERM under load", "all are told 1001; status 0",
        _WHOLE + "sigterm_under_load"),
    _of("clock jumps", "nothing is decided by the wall clock",
        _OWN + "a_clock_that_jumps", _WHOLE + "a_clock_that_is_set"),
    _of("process is stopped", "goes on: clients stay, a clock leaves out what it missed",
        _WHOLE + "a_process_that_is_stopped_goes_on"),
    # TLS.
    _of("TLS under load both ways", "whole and in order",
        _TLS + "tls_under_load_in_both_directions_loses_nothing",
        "net/test_tls.py::test_tls_carries_both_directions_at_once"),
    _of("TLS certificate renewed", "used at once, nobody is cut",
        _TLS + "renew_ssl_serves_new_handshakes_without_a_restart",
        _TLS + "sighup_reads_the_certificate_again"),
    _of("TLS handshake stalls", "let go after handshake_timeout",
        _TLS + "tls_stalled_handshake_ends_at_its_timeout",
        _TLS + "tls_with_many_stalled_handshakes_still_serves"),
    _of("TLS stream ends badly", "its client ends, without noise",
        _TLS + "tls_stream_end_of_any_kind_ends_its_client_only",
        _TLS + "tls_after_our_close_the_peer_may_still_send"),
    _of("TLS keys change, renegotiation", "goes on; refused, without noise",
        _TLS + "tls_key_update_keeps_the_connection", _TLS + "tls_renegotiation_is_refused"),
)  # fmt: skip
"""All of them, in the order in which they are told."""
