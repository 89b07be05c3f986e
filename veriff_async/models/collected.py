"""Device and network data, for sessions whose media are uploaded by API."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.json import JsonObject

__all__ = ("Browser", "CollectedData", "CollectedReceipt", "Device", "Network")


@frozen(kw_only=True)
class Device(Model):
    """The end-user's device.

    Attributes:
        fingerprint: Fingerprint of the device, up to 255 characters.
        android_id: Id of an Android device; the member's name is a guess.
        idfv: Id of an Apple device for one vendor; the member's name is a guess.
        model: Its model.
        vendor: Its maker.
        type: Its kind.
    """

    fingerprint: str = field(repr=False)
    android_id: str | None = field(default=None, repr=False)
    idfv: str | None = field(default=None, repr=False)
    model: str | None = None
    vendor: str | None = None
    type: str | None = None


@frozen(kw_only=True)
class Network(Model):
    """The end-user's network. One of the two addresses is required.

    Attributes:
        address_v4: IPv4 address.
        address_v6: IPv6 address.
        mobile_carrier: Name of the carrier.
        ssid: Name of the wireless network.
        hostname: Name of the host.
        location: Its location, as an object of Veriff's API; the members are not documented.
        asn: Its autonomous system, as an object of Veriff's API; the members are not documented.
    """

    address_v4: str | None = field(default=None, repr=False)
    address_v6: str | None = field(default=None, repr=False)
    mobile_carrier: str | None = None
    ssid: str | None = field(default=None, repr=False)
    hostname: str | None = field(default=None, repr=False)
    # Not hashed: a mapping is not hashable.
    location: JsonObject = field(factory=dict[str, object], repr=False, hash=False)
    asn: JsonObject = field(factory=dict[str, object], repr=False, hash=False)


@frozen(kw_only=True)
class Browser(Model):
    """The end-user's browser.

    Attributes:
        user_agent: Its user agent string, up to 255 characters.
        language: Its language, an IETF tag.
        timezone_offset: Minutes from UTC, -1440 to 1440; the member's name is a guess.
    """

    user_agent: str | None = None
    language: str | None = None
    timezone_offset: int | None = None


@frozen(kw_only=True)
class CollectedData(Model):
    """Data that you collected about the end-user's device and network.

    Attributes:
        provider_name: Who collected it, up to 255 characters.
        device: The device.
        network: The network.
        browser: The browser.
        email: The end-user's address.
        phone_number: The end-user's number: digits, spaces, a leading ``+``.
        extra: Further members, named as in Veriff's API.

    See https://devdocs.veriff.com/apidocs/v1sessionsidcollected-data-1.
    """

    provider_name: str
    device: Device
    network: Network
    browser: Browser | None = None
    email: str | None = field(default=None, repr=False)
    phone_number: str | None = field(default=None, repr=False)
    extra: JsonObject = field(factory=dict[str, object], repr=False, hash=False)


@frozen(kw_only=True)
class CollectedReceipt(Model):
    """The attempt to which Veriff assigned the data."""

    session_id: str | None = None
    attempt_id: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
