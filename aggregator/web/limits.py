"""How often strangers may do what costs us something: the numbers, and why they are these."""

from __future__ import annotations

from .address_limit import AddressLimit, Rate

# Two hundred people behind one proxy whose clients all register within a minute, and one more client a second; from
# everywhere together fifty a second. A registration is stored nowhere: sealing takes 0.05 ms, the HTTP around it about
# a millisecond, which adds up.
REGISTRATIONS = Rate(200, 1.0)
REGISTRATIONS_IN_TOTAL = Rate(1000, 0.02)

# A thousand people who log in within one minute of a Monday, and fifty a second for ever. Beginning a login stores
# nothing either and takes about two milliseconds, so a flood takes a tenth of one processor.
LOGINS = Rate(1000, 0.02)
LOGINS_IN_TOTAL = Rate(2000, 0.02)

# Metadata documents of clients that were never read, or not well. A team has a handful of such clients; and one address
# that invents names takes up a fifth of what all strangers together may have us fetch (`upstream.client_documents`,
# which bounds the sum), so that it keeps nobody else's client from being read for the first time.
DOCUMENTS = Rate(20, 5.0)
DOCUMENTS_IN_TOTAL = Rate(1000, 0.02)


def registration_limit() -> AddressLimit:
    return AddressLimit(
        address=REGISTRATIONS,
        total=REGISTRATIONS_IN_TOTAL,
        told="Too many clients have registered lately; keep the client id that you were given, or try again later.",
    )


def login_limit() -> AddressLimit:
    return AddressLimit(
        address=LOGINS,
        total=LOGINS_IN_TOTAL,
        told="Too many logins have been begun lately; wait a moment and try again.",
    )


def document_limit() -> AddressLimit:
    return AddressLimit(
        address=DOCUMENTS,
        total=DOCUMENTS_IN_TOTAL,
        told="Too many clients have asked with a metadata document lately; wait a moment and try again.",
    )
