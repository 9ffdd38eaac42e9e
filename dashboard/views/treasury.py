# SPDX-License-Identifier: Apache-2.0
"""The treasury page: what there is, what was promised, and every payment with its vote."""

from __future__ import annotations

from html import escape

from dao.governance.describe import plain_text
from dao.treasury import Kind, MilestoneState, Outcome
from dashboard.context import Context
from dashboard.i18n import _, ngettext
from dashboard.repositories import house as asking
from dashboard.repositories.house import Votes
from dashboard.services import rule_words as words
from dashboard.services.treasury import (
    BudgetView,
    GrantView,
    Ledger,
    Paid,
    RecurringView,
    Verdict,
    When,
    ledger,
)
from dashboard.views.house import (
    Asked,
    address,
    ask,
    filled,
    heading,
    nothing,
    proposal,
    put,
    table,
)
from dashboard.views.parts import Figure, error_box, figures, pill, title
from dashboard.views.resident import file_link, hash_text

PAYMENTS_SHOWN = 50
LISTED = 50
"""Grants, recurring payments and forfeited bonds that are shown, the newest."""
CSV_PATH = "/public/v1/payments.csv"


def draw(context: Context) -> None:
    """The page."""
    title(
        _("Treasury"),
        _("The neighbourhood’s own money: where it comes from, and what every euro was paid for."),
    )
    asked = ask(context)
    settings = context.settings
    one = ledger(
        asked.house,
        purse=asking.purse(settings),
        treasury=asked.deployment.get("Treasury"),
        now=context.now,
    )
    if one.verdict is Verdict.DIFFERS:
        error_box(
            _("The payments read here are not those of the treasury’s own hash chain."),
            _("The money is where the contract says it is; only this list cannot be trusted."),
            _("Delete the index so that it is read anew, or ask another node."),
        )
    _figures(context, one)
    put(
        _verdict(one)
        + _income(asked, one)
        + _budgets(asked, one)
        + _grants(asked, one)
        + _recurring(asked, one)
        + _payments(asked, one)
        + _forfeits(asked, one)
    )


def _figures(context: Context, one: Ledger) -> None:
    fmt = context.fmt
    unknown = _("not known without a node")
    purse = one.purse
    count = ngettext("{number} payment", "{number} payments", len(one.payments))
    those = [
        Figure(_("Paid so far"), fmt.euro(one.paid), count.format(number=len(one.payments))),
    ]
    if purse is None:
        those.insert(0, Figure(_("Balance"), "–", unknown))
    else:
        those[:0] = [
            Figure(_("Balance"), fmt.euro(purse.free + purse.reserved)),
            Figure(_("Free"), fmt.euro(purse.free), _("not promised to anybody")),
            Figure(_("Set aside"), fmt.euro(purse.reserved), _("for open milestones of grants")),
        ]
    figures(those)


def _verdict(one: Ledger) -> str:
    if one.verdict is Verdict.FITS:
        words = _(
            "The payments below are all there are, unaltered: their hash chain ends where the "
            "treasury’s own does."
        )
        return f"<p>{pill(_('Checked on the chain'), 'good')} {escape(words)}</p>"
    if one.verdict is Verdict.DIFFERS:
        return ""
    words = _("Whether these are all payments could not be checked against the chain just now.")
    return f"<p>{pill(_('Not checked'), 'open')} {escape(words)}</p>"


def _income(asked: Asked, one: Ledger) -> str:
    fmt = asked.context.fmt
    rows = [
        (escape(_("Grid fees of the market")), escape(fmt.euro(one.fees))),
        (escape(_("Bonds of proposers, forfeited")), escape(fmt.euro(one.forfeited))),
    ]
    if one.otherwise is not None:
        rows.append((escape(_("Put in otherwise")), escape(fmt.euro(one.otherwise))))
    return heading(_("Where the money comes from")) + table(
        _("Where the money comes from"), ((_("Source"), ""), (_("Amount"), "num")), rows
    )


def _purpose(one: Ledger, number: int) -> str:
    return escape(one.names.get(number) or _("Purpose {number}").format(number=number))


# Budgets


def _budgets(asked: Asked, one: Ledger) -> str:
    top = heading(
        _("Budgets"),
        _("At most so much is paid or promised for a purpose in each period."),
    )
    if not one.budgets:
        return top + nothing(_("No budget yet"), _("A vote sets one; without it nothing is paid."))
    rows = [_budget(asked, one, budget) for budget in one.budgets]
    return top + table(
        _("Budgets"),
        (
            (_("Purpose"), "text"),
            (_("Used"), "gc-spent"),
            (_("Where it stands"), "when"),
            (_("Period"), "when"),
            (_("Decided by"), "text"),
        ),
        rows,
    )


def _budget(asked: Asked, one: Ledger, budget: BudgetView) -> tuple[str, ...]:
    fmt = asked.context.fmt
    pace = _("every {time}").format(time=words.duration(budget.period_seconds, fmt))
    used = f"{escape(fmt.euro(budget.amount))}<small>{escape(pace)}</small>"
    if budget.when is When.RUNNING:
        share = min(budget.spent / budget.amount, 1.0) if budget.amount else 1.0
        told = _("{spent} of {amount}").format(
            spent=fmt.euro(budget.spent), amount=fmt.euro(budget.amount)
        )
        used = (
            f'{escape(told)}<small>{escape(pace)}</small><div class="gc-bar" aria-hidden="true">'
            f'<i style="width: {share * 100:.0f}%"></i></div>'
        )
    span = _("{begin} to {end}")
    if budget.when is When.RUNNING:
        period = span.format(begin=fmt.date(budget.period_begins), end=fmt.date(budget.period_ends))
        state = pill(_("Running"), "good")
    elif budget.when is When.COMING:
        period = _("from {date}").format(date=fmt.date(budget.starts_at))
        state = pill(_("To come"), "open")
    else:
        period = _("until {date}").format(date=fmt.date(budget.ends_at))
        state = pill(_("Over"), "plain")
    ends = _("ends {date}").format(date=fmt.date(budget.ends_at))
    return (
        _purpose(one, budget.purpose),
        used,
        state,
        f"{escape(period)}<small>{escape(ends)}</small>"
        if budget.when is not When.OVER
        else escape(period),
        proposal(asked, budget.proposal),
    )


# Grants


def _grants(asked: Asked, one: Ledger) -> str:
    top = heading(
        _("Grants"),
        _("Money set aside for somebody, paid when a milestone is reached."),
    )
    if not one.grants:
        return top + nothing(_("No grant yet"), _("A vote makes one, out of a budget."))
    shown_ = one.grants[::-1][:LISTED]
    return top + f"<ul>{''.join(_grant(asked, one, grant) for grant in shown_)}</ul>"


def _grant(asked: Asked, one: Ledger, grant: GrantView) -> str:
    fmt = asked.context.fmt
    paid = _("{paid} of {amount} paid").format(
        paid=fmt.euro(grant.paid), amount=fmt.euro(grant.amount)
    )
    rows = [_milestone(asked, step) for step in grant.milestones]
    name = grant.reference or _("Grant {number}").format(number=grant.id)
    facts = filled(
        _("{purpose} · to {payee} · {date} · {proposal}"),
        purpose=_purpose(one, grant.purpose),
        payee=address(grant.payee),
        date=escape(fmt.date(grant.made_at)),
        proposal=proposal(asked, grant.proposal),
    )
    return (
        f'<li class="gc-role"><header><h3>{escape(name)}</h3>{pill(paid, "plain")}</header>'
        f'<p class="holder">{facts}</p>'
        + table(
            _("Milestones of {grant}").format(grant=name),
            (
                (_("Paid when"), "text"),
                (_("Amount"), "num"),
                (_("Where it stands"), "when"),
                (_("Until"), "when"),
            ),
            rows,
        )
        + "</li>"
    )


def _milestone(asked: Asked, step: MilestoneState) -> tuple[str, ...]:
    fmt, terms = asked.context.fmt, step.milestone
    if terms.meter is None:
        when = escape(_("a vote releases it"))
    else:
        told = _("metering point {meter} has fed in {energy}").format(
            meter=terms.meter, energy=fmt.kwh(terms.threshold_wh)
        )
        so_far = _("{energy} proved so far").format(energy=fmt.kwh(step.produced_wh))
        when = f"{escape(told)}<small>{escape(so_far)}</small>"
    state = {
        Outcome.OPEN: pill(_("Open"), "open"),
        Outcome.PAID: pill(_("Paid"), "good"),
        Outcome.LAPSED: pill(_("Lapsed"), "plain"),
        Outcome.CANCELLED: pill(_("Taken back"), "bad"),
    }[step.outcome]
    if step.outcome is Outcome.OPEN and terms.expires_at <= asked.context.now:
        state = pill(_("Too late"), "bad")
    return when, escape(fmt.euro(terms.amount)), state, escape(fmt.date(terms.expires_at))


# Paid again and again


def _recurring(asked: Asked, one: Ledger) -> str:
    if not one.recurring:
        return ""
    rows = [_again(asked, one, each) for each in one.recurring[::-1][:LISTED]]
    return heading(
        _("Recurring payments"),
        _("Agreed once, paid at each date as far as the budget and the free money reach."),
    ) + table(
        _("Recurring payments"),
        (
            (_("What for"), "text"),
            (_("Amount"), "num"),
            (_("Paid"), "num"),
            (_("Next"), "when"),
            (_("To"), ""),
            (_("Decided by"), "text"),
        ),
        rows,
    )


def _again(asked: Asked, one: Ledger, each: RecurringView) -> tuple[str, ...]:
    fmt = asked.context.fmt
    pace = _("every {time}").format(time=words.duration(each.period_seconds, fmt))
    if each.ended:
        follows = pill(_("Ended by a vote"), "plain")
    elif each.next_at is None:
        follows = pill(_("All paid"), "good")
    else:
        follows = escape(fmt.date(each.next_at))
        if each.due:
            due = ngettext("{number} due", "{number} due", each.due).format(number=each.due)
            follows += f" {pill(due, 'open')}"
    return (
        f"{escape(each.reference)}<small>{_purpose(one, each.purpose)}</small>",
        f"{escape(fmt.euro(each.amount))}<small>{escape(pace)}</small>",
        escape(_("{paid} of {count}").format(paid=each.paid, count=each.count)),
        follows,
        address(each.payee),
        proposal(asked, each.proposal),
    )


# Every payment


def _payments(asked: Asked, one: Ledger) -> str:
    top = heading(_("Every payment"), _("The newest first, each with the vote that decided it."))
    if not one.payments:
        return top + nothing(
            _("Nothing was paid yet"),
            _("A payment needs a proposal, a vote that passes, and a budget."),
        )
    votes = asking.votes(asked.context.settings)
    listed = one.payments[::-1][:PAYMENTS_SHOWN]
    rows = [_payment(asked, one, paid, votes.get(paid.payment.proposal)) for paid in listed]
    less = ""
    if len(one.payments) > len(listed):
        words_ = _("The newest {shown} of {all}; the CSV file has every one.").format(
            shown=len(listed), all=len(one.payments)
        )
        less = f'<p class="gc-lead">{escape(words_)}</p>'
    return (
        top
        + file_link(_("All payments as CSV"), CSV_PATH)
        + table(
            _("Every payment"),
            (
                (_("No."), "num"),
                (_("Day"), "when"),
                (_("Amount"), "num"),
                (_("What for"), "text"),
                (_("Proposal"), "text"),
                (_("Vote"), "when"),
                (_("To"), ""),
                (_("Transaction"), ""),
            ),
            rows,
        )
        + less
    )


def _payment(asked: Asked, one: Ledger, paid: Paid, votes: Votes | None) -> tuple[str, ...]:
    fmt, payment = asked.context.fmt, paid.payment
    kind = {
        Kind.SINGLE: _("single payment"),
        Kind.VOTED_MILESTONE: _("milestone of a grant, by vote"),
        Kind.METERED_MILESTONE: _("milestone of a grant, by meter"),
        Kind.RECURRING: _("recurring payment"),
    }[payment.kind]
    cast = "–"
    if votes is not None:
        cast = escape(
            _("{favour} for, {against} against").format(
                favour=fmt.number(votes.favour), against=fmt.number(votes.against)
            )
        )
    name = one.names.get(payment.purpose) or _("Purpose {number}").format(number=payment.purpose)
    return (
        escape(fmt.number(payment.number)),
        escape(fmt.date(payment.paid_at)),
        escape(fmt.euro(payment.amount)),
        f"{escape(plain_text(payment.reference))}<small>{escape(f'{name} · {kind}')}</small>",
        proposal(asked, payment.proposal),
        cast,
        address(payment.payee),
        hash_text(paid.tx),
    )


def _forfeits(asked: Asked, one: Ledger) -> str:
    if not one.forfeits and not one.slashes:
        return ""
    fmt = asked.context.fmt
    top = heading(
        _("Bonds forfeited"),
        _("Where vetoes called a proposal an abuse, its proposer’s bond became everybody’s."),
    )
    body = ""
    if one.forfeits:
        body = table(
            _("Bonds forfeited"),
            (
                (_("Day"), "when"),
                (_("Whose"), ""),
                (_("Amount"), "num"),
                (_("Proposal"), "text"),
                (_("Transaction"), ""),
            ),
            [
                (
                    escape(fmt.date(each.at)),
                    address(each.account),
                    escape(fmt.euro(each.amount)),
                    proposal(asked, each.proposal),
                    hash_text(each.tx),
                )
                for each in one.forfeits[::-1][:LISTED]
            ],
        )
    if one.slashes:
        words_ = ngettext(
            "Forecasters lost {amount} of their bonds, on {number} day. It does not come here: it "
            "pays for good forecasts.",
            "Forecasters lost {amount} of their bonds, on {number} days. It does not come here: "
            "it pays for good forecasts.",
            one.slashes,
        ).format(amount=fmt.euro(one.slashed), number=one.slashes)
        body += f'<p class="gc-lead">{escape(words_)}</p>'
    return top + body
