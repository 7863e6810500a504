"""The audit at the end of a chaos run: compares what clients, the store, sellers and webhook targets have."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator

from msgspec import Struct, field

from gateway.jobs.job import Job, order_reference
from gateway.jobs.transition_tables import LedgerLine
from tests.chaos.chaos_config import VENDOR_BY_SELLER
from tests.chaos.program.load_clients import LoadRecord
from tests.chaos.program.run_config import WEBHOOK_TARGETS
from tests.chaos.program.run_state import VENDOR_WITHOUT_REFERENCES, ChargedLine, RunState
from tests.explore.final_audit import list_repeated_purchases
from tests.harness.webhook_receiver import WebhookReceiver


class Audit(Struct, kw_only=True):
    """The findings, each by its name in the last line of the report. `other`: findings that have no place there.
    `notes`: what is not a fault of the gateway."""

    lost_jobs: list[str] = field(default_factory=list)
    repeated_purchases: list[str] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    ledger_difference: int = 0
    ledger_lines: list[str] = field(default_factory=list)
    repeated_ends: list[str] = field(default_factory=list)
    missing_webhooks: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        lists = (self.lost_jobs, self.repeated_purchases, self.holds, self.repeated_ends, self.missing_webhooks)
        return not any(lists) and self.ledger_difference == 0 and not self.other

    def list_findings(self) -> Iterator[str]:
        lists = {
            "job lost": self.lost_jobs,
            "bought twice": self.repeated_purchases,
            "hold left": self.holds,
            "ledger minus invoice": self.ledger_lines,
            "terminal milestone": self.repeated_ends,
            "webhook missing": self.missing_webhooks,
            "other": self.other,
        }
        yield from (f"{name}: {finding}" for name, findings in lists.items() for finding in findings)

    @property
    def last_line(self) -> str:
        return (
            f"jobs lost {len(self.lost_jobs)} · bought twice {len(self.repeated_purchases)} · "
            f"holds left {len(self.holds)} · ledger minus invoice {self.ledger_difference} micro-USD · "
            f"second terminal milestone {len(self.repeated_ends)} · webhook missing {len(self.missing_webhooks)}"
        )


def audit_run(state: RunState, invoice: list[ChargedLine], record: LoadRecord, receiver: WebhookReceiver) -> Audit:
    """`state`: after the reconciliation."""
    audit = Audit()
    _audit_jobs(audit, state, record)
    _audit_batches(audit, state, record)
    _audit_purchases(audit, state, invoice)
    _audit_purchases_by_prompt(audit, state, invoice, record)
    _audit_money(audit, state, invoice)
    _audit_webhooks(audit, state, receiver)
    audit.other += [*record.problems, *state.left_documents]
    audit.other += [f"the audit of the store: {line}" for line in state.discrepancies]
    if state.outbox_length:
        audit.other.append(f"{state.outbox_length} webhooks are still in the outbox")
    return audit


def _audit_jobs(audit: Audit, state: RunState, record: LoadRecord) -> None:
    """Each job that a client has the id of is stored, and each stored one has ended: once, and as clients saw it."""
    audit.lost_jobs += [f"{job_id} is not in the store" for job_id in sorted(record.job_ids - state.jobs.keys())]
    audit.lost_jobs += [f"{job_id} is {state.jobs[job_id].state}, not settled" for job_id in state.open_jobs]
    audit.lost_jobs += state.missing_images
    for job_id, job in state.jobs.items():
        if state.ends[job_id] != [job.state] * job.state.is_terminal:
            audit.repeated_ends.append(f"{job_id} is {job.state}, its terminal milestones are {state.ends[job_id]}")
        seen_end = record.ends.get(job_id, job.state)
        if seen_end != job.state:
            audit.repeated_ends.append(f"{job_id} is {job.state}, and a client saw that it was {seen_end}")


def _audit_batches(audit: Audit, state: RunState, record: LoadRecord) -> None:
    """Each line has a result. A batch that was refused, since its seller's account had no key, has ordered nothing."""
    jobs = Counter(job.batch_id for job in state.jobs.values())
    for batch_id, line_count in record.batches.items():
        counts = Counter(record.batch_counts.get(batch_id))
        has_results = counts["completed"] + counts["failed"] == counts["total"] == line_count
        if batch_id in record.refused_batches:
            if jobs[batch_id]:
                audit.lost_jobs.append(f"{batch_id} was refused, and has {jobs[batch_id]} jobs")
        elif not has_results:
            audit.lost_jobs.append(f"{batch_id} has {line_count} lines, and ended with {dict(counts)}")
        elif jobs[batch_id] < counts["completed"]:
            audit.lost_jobs.append(f"{batch_id} has {dict(counts)} lines, and {jobs[batch_id]} jobs")


def _audit_purchases(audit: Audit, state: RunState, invoice: list[ChargedLine]) -> None:
    """An order is placed with one idempotency key, an image is bought once, and a request buys one job."""
    charges = Counter((line.reference, line.key) for line in invoice if line.reference)
    keys = Counter(reference for reference, _ in charges)
    audit.repeated_purchases += [
        f"{reference} was ordered with {count} idempotency keys" for reference, count in keys.items() if count > 1
    ]
    if extra := charges.total() - len(charges):
        audit.notes.append(
            f"{extra} orders were charged again by a seller that ignored their idempotency key: reconciliation books "
            f"them as orphaned"
        )
    for job in state.jobs.values():
        audit.repeated_purchases += list_repeated_purchases(job)
    jobs_by_prompt = defaultdict(list)
    for job_id, prompt in state.prompts.items():
        if _has_cost(state.jobs[job_id]):
            jobs_by_prompt[prompt].append(job_id)
    audit.repeated_purchases += [
        f"one request bought {', '.join(jobs)}: {_get_client(prompt)}"
        for prompt, jobs in jobs_by_prompt.items()
        if len(jobs) > 1
    ]


def _audit_purchases_by_prompt(audit: Audit, state: RunState, invoice: list[ChargedLine], record: LoadRecord) -> None:
    """A seller whose charges name no order has charged each recorded attempt once at most."""
    prompts = {job_id: prompt for prompt, job_ids in record.jobs.items() for job_id in job_ids} | state.prompts
    charged = Counter(_get_client(line.caption) for line in invoice if line.vendor == VENDOR_WITHOUT_REFERENCES)
    ordered = Counter(
        _get_client(prompts[job_id])
        for job_id, job in state.jobs.items()
        for attempt in job.attempts
        if VENDOR_BY_SELLER[job.route_entry(attempt).seller] == VENDOR_WITHOUT_REFERENCES
    )
    audit.repeated_purchases += [
        f"{client} was charged {count} times by openai, and ordered {ordered[client]} times"
        for client, count in charged.items()
        if count > ordered[client]
    ]


def _get_client(prompt: str) -> str:
    """Returns the name of the client, or of the line of a batch, that sent this prompt."""
    return prompt.split()[0]


def _has_cost(job: Job) -> bool:
    return any(
        attempt.captured_amount or attempt.orphaned_amount or attempt.suspected_amount for attempt in job.attempts
    )


def _audit_money(audit: Audit, state: RunState, invoice: list[ChargedLine]) -> None:
    audit.holds += [
        f"{balance.held} micro-USD in {window}" for window, balance in state.balances.items() if balance.held
    ]
    references = {order_reference(job.id, attempt.number) for job in state.jobs.values() for attempt in job.attempts}
    audit.other += [
        f"{line.order_id} ({line.reference}) was charged, and no job has this order"
        for line in invoice
        if line.vendor != VENDOR_WITHOUT_REFERENCES and line.reference not in references
    ]
    spent = {window: balance.spent for window, balance in state.balances.items() if len(window) > 7}
    captured = Counter[str]()
    known, suspected = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for entry in state.entries:
        key = (entry.job, VENDOR_BY_SELLER[entry.seller])
        (suspected if entry.line is LedgerLine.SUSPECTED else known)[key] += entry.amount
        if entry.line is LedgerLine.CAPTURE:
            captured[entry.day] += entry.amount
    audit.other += [
        f"{day} has {captured[day]} micro-USD captured, and {spent.get(day, 0)} spent of the budget"
        for day in sorted(captured.keys() | spent.keys())
        if captured[day] != spent.get(day, 0)
    ]
    _compare_with_references(audit, known, suspected, invoice)
    _compare_totals(audit, known, suspected, invoice)


def _compare_with_references(
    audit: Audit,
    known: Counter[tuple[str, str]],
    suspected: Counter[tuple[str, str]],
    invoice: list[ChargedLine],
) -> None:
    """Where charges name their order, ledger and invoice are equal for each job, and nothing is suspected any more."""
    charged = Counter[tuple[str, str]]()
    for line in invoice:
        if line.vendor != VENDOR_WITHOUT_REFERENCES:
            charged[line.job, line.vendor] += line.amount
    for key in sorted(charged.keys() | known.keys() | suspected.keys()):
        job_id, vendor = key
        difference = known[key] + suspected[key] - charged[key]
        if vendor != VENDOR_WITHOUT_REFERENCES and (difference or suspected[key]):
            audit.ledger_difference += abs(difference) or suspected[key]
            audit.ledger_lines.append(
                f"{job_id or 'a charge without a job'} at {vendor}: booked {known[key]}, suspected {suspected[key]}, "
                f"charged {charged[key]}"
            )


def _compare_totals(
    audit: Audit,
    known: Counter[tuple[str, str]],
    suspected: Counter[tuple[str, str]],
    invoice: list[ChargedLine],
) -> None:
    """OpenAI's charges name no order: the invoice has all that is booked, and at most what is suspected besides."""
    booked, possible = (
        sum(amount for (_, vendor), amount in amounts.items() if vendor == VENDOR_WITHOUT_REFERENCES)
        for amounts in (known, suspected)
    )
    charged = sum(line.amount for line in invoice if line.vendor == VENDOR_WITHOUT_REFERENCES)
    difference = min(charged - booked, 0) or max(charged - booked - possible, 0)
    if difference:
        audit.ledger_difference += abs(difference)
        audit.ledger_lines.append(f"openai charged {charged}; booked {booked}, suspected {possible}")
    audit.notes.append(
        f"openai names no order in its invoice: it charged {charged} micro-USD, of which {booked} are booked, and "
        f"{charged - booked} of the {possible} that are booked as suspected"
    )


def _audit_webhooks(audit: Audit, state: RunState, receiver: WebhookReceiver) -> None:
    """Each target has accepted a webhook of each job, and always with the same id."""
    ids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    accepted = Counter[tuple[str, str]]()
    for webhook in receiver.webhooks:
        if webhook.status // 100 == 2:
            event = json.loads(webhook.body)
            key = (webhook.path.lstrip("/"), event["data"]["id"])
            ids[key].add(webhook.id)
            accepted[key] += 1
            job = state.jobs.get(key[1])
            if job is None or event["type"] != f"job.{job.state}":
                audit.other.append(f"{webhook.id} says {event['type']} of {key[1]}")
    # The jobs of a batch have no webhooks of the team.
    expected = {
        (target, job_id)
        for job_id, job in state.jobs.items()
        if job.state.is_terminal and not job.batch_id
        for target in WEBHOOK_TARGETS
    }
    audit.missing_webhooks += [f"{job_id} at {target}" for target, job_id in sorted(expected - accepted.keys())]
    audit.other += [
        f"the webhook of {job_id} has {len(found)} ids" for (_, job_id), found in ids.items() if len(found) > 1
    ]
    duplicates = accepted.total() - len(accepted)
    audit.notes.append(f"{accepted.total()} webhooks were accepted, {duplicates} of them again after a crash")
