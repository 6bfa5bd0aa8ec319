"""How a person is named: in rows, and in logs."""

from __future__ import annotations

from aggregator.protocol.principal import LOCAL, Principal


def test_logs_name_a_person_as_rows_do_and_the_one_of_local_mode_as_you() -> None:
    alice = Principal("https://idp.example.com", "alice")
    assert f"{alice}" == alice.key
    assert alice.key.endswith("|alice")
    assert f"{LOCAL}" == "you"
    assert LOCAL.key != "you"
