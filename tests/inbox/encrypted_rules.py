"""Rules of the contract that read everything that an inbox stores, for inboxes that encrypt it."""

from __future__ import annotations

from typing import Final

ENCRYPTED_RULES: Final = (
    "test_get_events_returns_all_events_in_order",
    "test_final_state_is_not_reverted",
    "test_session_is_found_by_its_person",
    "test_deliveries_survive_closing",
    "test_first_webhook_of_a_polled_decision_counts",
)
