"""Refusals of capacity. Codes are part of the public surface; each says what would work, as far as it is known."""

from skerry.kernel.errors import Conflict, Invalid, NotFound, RateLimited


class UnknownQuote(NotFound):
    code = "unknown_quote"


class UnknownOffer(NotFound):
    code = "unknown_offer"


class UnknownReservation(NotFound):
    code = "unknown_reservation"


class UnknownChangeQuote(NotFound):
    code = "unknown_change_quote"


class UnknownSku(Invalid):
    """Nobody sells it; `skus` lists what there is."""

    code = "unknown_sku"


class UnknownSite(Invalid):
    """`sites` lists what there is."""

    code = "unknown_site"


class ScopeTooLarge(Invalid):
    """No leaf, hall or site will ever have so many nodes of it; `largest` says how many."""

    code = "scope_too_large"


class BeyondHorizon(Invalid):
    """It would not be over before the calendar ends; `horizon` says when that is."""

    code = "beyond_horizon"


class OutsideJurisdiction(Invalid):
    """The project's data may not be there; `sites` lists where it may."""

    code = "outside_jurisdiction"


class InThePast(Invalid):
    code = "in_the_past"


class BadWindow(Invalid):
    """An end that is not after its start, windows that overlap, or fields that say two things."""

    code = "bad_window"


class NotReservable(Invalid):
    """On-demand and spot capacity is taken by creating an instance or a cluster, not by holding an offer."""

    code = "not_reservable"


class BadChange(Invalid):
    """Not a change: it would leave the reservation as it is, or with nothing."""

    code = "bad_change"


class OfferLapsed(Conflict):
    """The offer is past its `expires_at`; `quote` is a fresh one of the same request."""

    code = "offer_lapsed"


class OfferTaken(Conflict):
    """The offer has been sold, or what it stood on has; `quote` is a fresh one of the same request."""

    code = "offer_taken"


class HoldExpired(Conflict):
    """The hold is past its `expires_at`; `quote` is a fresh one of the same request."""

    code = "hold_expired"


class NotAHold(Conflict):
    """Only a hold is dropped; what is confirmed is cancelled by a change."""

    code = "not_a_hold"


class NotChangeable(Conflict):
    """In its present status this change is not possible."""

    code = "not_changeable"


class ChangeLapsed(Conflict):
    """The change quote has lapsed, was used, or the reservation has changed since; `quote` is a fresh one."""

    code = "change_lapsed"


class NoRoomForChange(Conflict):
    """The nodes that the change needs are promised to others."""

    code = "no_room_for_change"


class TooManyHolds(RateLimited):
    """The organization holds as much as it may; confirm or drop a hold, or wait until one lapses."""

    code = "too_many_holds"


class HoldTooLarge(RateLimited):
    """So many node-seconds cannot be held; confirm at once (`confirm: true`), or hold less."""

    code = "hold_too_large"


class HeldTooOften(RateLimited):
    """The same capacity was held again and again and not bought; confirm at once, or come back tomorrow."""

    code = "held_too_often"


class NoPrice(Conflict):
    """The operator has set no price for it, and what has none is not sold."""

    code = "no_price"
