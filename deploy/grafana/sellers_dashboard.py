"""Sellers: who is fast, who fails, and who delivers what was ordered?"""

from dashboard_model import (
    RATE,
    Dashboard,
    Panel,
    PanelKind,
    Query,
    Unit,
    alarm_from,
    average,
    fine_from,
    quantile,
    select,
    warn_from,
)

CELLS = select("seller", "model")
CELL_LABELS = ("seller", "operation", "resolution", "quality")
CELL_LEGEND = "{{seller}} {{operation}} {{resolution}} {{quality}}"
BREAKER_STATES = ((0, "closed", "green"), (1, "half-open", "orange"), (2, "open", "red"))
NO_FAULTS_OF_SELLERS = "delivered|content_refused|image_withheld|image_unmoderated|invalid_order"
FAULTS = select("seller", "model", more=f'outcome!~"{NO_FAULTS_OF_SELLERS}"')
FAILOVER_FILTER = '{from_seller=~"$seller"}'
CELL_NAMES = ", ".join(CELL_LABELS)
FAILED_ORDERS = f"sum by ({CELL_NAMES}) (rate(igw_failed_orders_total{CELLS}[{RATE}]))"
DELIVERED_ORDERS = f"sum by ({CELL_NAMES}) (rate(igw_attempt_duration_seconds_count{CELLS}[{RATE}]))"

LATENCY_ROW = (
    Panel(
        title="Time of an order, by cell",
        description="One of ten orders takes this long or longer, until its images are stored: an estimate between the "
        "bounds of its bucket. The panels beside it are exact.",
        queries=(
            Query(quantile(0.9, "igw_attempt_duration_seconds", CELLS, CELL_LABELS), CELL_LEGEND, has_exemplars=True),
        ),
        unit=Unit.SECONDS,
        runbook="imagegatewaycellslow",
    ),
    Panel(
        title="Compared with what is configured",
        description="The average time of an order, divided by the p90 of the configuration. Above 1 the cell is slower "
        "than configured.",
        queries=(
            Query(
                f"{average('igw_attempt_duration_seconds', CELLS, CELL_LABELS)} / on (seller, quality) group_left () "
                f"max by (seller, quality) (igw_expected_order_duration_seconds{CELLS})",
                CELL_LEGEND,
            ),
        ),
        unit=Unit.COUNT,
        limits=(warn_from(1),),
        runbook="imagegatewaycellslow",
    ),
    Panel(
        title="Slow orders",
        description="The share of the orders that took more than twice the p90 of the configuration. Above 10 % the "
        "cell counts as slow.",
        queries=(
            Query(
                f"sum by ({CELL_NAMES}) (rate(igw_slow_orders_total{CELLS}[{RATE}])) / ({DELIVERED_ORDERS} > 0)",
                CELL_LEGEND,
            ),
        ),
        unit=Unit.SHARE,
        limits=(alarm_from(0.1),),
        runbook="imagegatewaycellslow",
    ),
)
FAULT_ROW = (
    Panel(
        title="Orders by result",
        description="Orders that ended per second, by seller: delivered, or the kind of fault (docs/faults.md).",
        queries=(
            Query(
                f"sum by (seller, outcome) (rate(igw_attempts_ended_total{CELLS}[{RATE}]))", "{{seller}} {{outcome}}"
            ),
        ),
        unit=Unit.PER_SECOND,
        runbook="imagegatewaycelldown",
    ),
    Panel(
        title="Share of failed orders",
        description="Failed orders among all, by seller. Refused content and orders that are invalid are not the "
        "seller's fault.",
        queries=(
            Query(
                f"sum by (seller) (rate(igw_attempts_ended_total{FAULTS}[{RATE}])) / "
                f"sum by (seller) (rate(igw_attempts_ended_total{CELLS}[{RATE}]))",
                "{{seller}}",
            ),
        ),
        unit=Unit.SHARE,
        limits=(warn_from(0.05), alarm_from(0.2)),
        runbook="imagegatewaycelldown",
        when_empty="No order failed.",
    ),
    Panel(
        title="What a failed order costs",
        description="Time from an order to its failure: how long a job was held up before the next seller was tried.",
        queries=tuple(
            Query(
                quantile(share, "igw_failed_attempt_duration_seconds", select("seller"), ("seller",)),
                f"{{{{seller}}}} {name}",
            )
            for share, name in ((0.5, "p50"), (0.95, "p95"))
        ),
        unit=Unit.SECONDS,
        when_empty="No order failed.",
    ),
    Panel(
        title="Failed orders, by cell",
        description="Failed orders among all of a cell: what a seller cannot deliver. Refused content and orders that "
        "are invalid do not count.",
        queries=(
            Query(
                # A cell that has delivered nothing yet has only the failed ones.
                f"{FAILED_ORDERS} / (({FAILED_ORDERS} + ({DELIVERED_ORDERS} or 0 * {FAILED_ORDERS})) > 0)",
                CELL_LEGEND,
            ),
        ),
        unit=Unit.SHARE,
        width=12,
        limits=(warn_from(0.05), alarm_from(0.2)),
        runbook="imagegatewaycelldown",
        when_empty="No order failed.",
    ),
    Panel(
        title="Time of a failed order, by cell",
        description="The average time from an order to its failure, by cell: compare it with the time of an order that "
        "is delivered.",
        queries=(
            Query(
                f"sum by ({CELL_NAMES}) (rate(igw_failed_order_seconds_total{CELLS}[{RATE}])) / ({FAILED_ORDERS} > 0)",
                CELL_LEGEND,
            ),
        ),
        unit=Unit.SECONDS,
        width=12,
        when_empty="No order failed.",
    ),
    Panel(
        title="Circuit breakers of cells",
        description="Closed: orders go there. Half-open: the next order tests it. Open: other sellers get the orders.",
        queries=(Query(f"max by ({CELL_NAMES}) (igw_cell_circuit_breaker_state{CELLS})", CELL_LEGEND),),
        unit=Unit.STATE,
        kind=PanelKind.TIMELINE,
        state_names=BREAKER_STATES,
        width=16,
        height=12,
        runbook="imagegatewaycelldown",
    ),
    Panel(
        title="Circuit breakers of accounts",
        description="Open: the key was refused, the credit is used up, or the seller cannot be reached.",
        queries=(Query("max by (account) (igw_account_circuit_breaker_state)", "{{account}}"),),
        unit=Unit.STATE,
        kind=PanelKind.TIMELINE,
        state_names=BREAKER_STATES,
        height=12,
        runbook="imagegatewaycelldown",
    ),
    Panel(
        title="Refused accounts",
        description="Accounts whose key is not valid, or that have no credit: no order goes there until a free check "
        "of the account passes. `image-gateway accounts` says what to do.",
        queries=(Query("max by (account, reason) (igw_account_refused)", "{{account}} {{reason}}"),),
        unit=Unit.STATE,
        kind=PanelKind.TIMELINE,
        state_names=((0, "no", "green"), (1, "refused", "red")),
        width=24,
        runbook="imagegatewayaccountrefused",
    ),
)
FAILOVER_ROW = (
    Panel(
        title="Failovers",
        description="Orders that went to another seller because the first one failed, per second: from, to, and why.",
        queries=(
            Query(
                f"sum by (from_seller, to_seller, reason) (rate(igw_failovers_total{FAILOVER_FILTER}[{RATE}]))",
                "{{from_seller}} → {{to_seller}}: {{reason}}",
            ),
        ),
        unit=Unit.PER_SECOND,
        kind=PanelKind.STACK,
        when_empty="No order failed over to another seller.",
    ),
    Panel(
        title="Failovers, from and to",
        description="How often orders went from one seller to another in the selected time.",
        queries=(Query(f"sum by (from_seller, to_seller) (increase(igw_failovers_total{FAILOVER_FILTER}[$__range]))"),),
        unit=Unit.COUNT,
        kind=PanelKind.MATRIX,
        matrix=("from_seller", "to_seller"),
        when_empty="No order failed over to another seller.",
    ),
    Panel(
        title="Sellers without an order",
        description="Sellers that were passed over per second: no free slot, refused inputs, or no longer configured.",
        queries=(
            Query(
                f"sum by (seller, reason) (rate(igw_offers_skipped_total{select('seller')}[{RATE}]))",
                "{{seller}} {{reason}}",
            ),
        ),
        unit=Unit.PER_SECOND,
        when_empty="Every seller got the orders that were meant for it.",
    ),
)
CONFORMANCE_ROW = (
    Panel(
        title="Delivered as ordered",
        description="The share of the recent images of each cell that have the size and format that were "
        "ordered. Below 80 % the cell is ranked last.",
        queries=(Query(f"min by ({CELL_NAMES}) (igw_cell_conformance_ratio{CELLS})", CELL_LEGEND),),
        unit=Unit.SHARE,
        limits=(warn_from(0.8), fine_from(0.95)),
        is_falling=True,
        runbook="imagegatewaydowngradedimages",
        when_empty="No cell has delivered enough images yet.",
    ),
    Panel(
        title="Images that differ from their order",
        description="Images per second with another size or format than ordered, by cell.",
        queries=(Query(f"sum by ({CELL_NAMES}) (rate(igw_unfaithful_images_total{CELLS}[{RATE}]))", CELL_LEGEND),),
        unit=Unit.PER_SECOND,
        runbook="imagegatewaydowngradedimages",
        when_empty="Every image is as it was ordered.",
    ),
    Panel(
        title="Late images",
        description="Images that arrived after their order was given up, in the selected time. They are paid for "
        "nothing.",
        queries=(
            Query(f"sum by (seller) (increase(igw_late_images_total{select('seller')}[$__range]))", "{{seller}}"),
        ),
        unit=Unit.COUNT,
        when_empty="No images came after their order was given up.",
    ),
    Panel(
        title="Canaries",
        description="The share of its images that the canary of each policy has delivered, and 1 once it has passed: "
        "it charged them as configured, and is ranked like the other sellers (docs/routing.md).",
        queries=(
            Query(f"max by (policy, seller) (igw_canary_delivered_ratio{select('seller')})", "{{policy}}: {{seller}}"),
            Query(f"max by (policy, seller) (igw_canary_passed{select('seller')})", "{{policy}}: {{seller}} passed"),
        ),
        unit=Unit.SHARE,
        when_empty="No policy has a canary.",
    ),
)
LIMIT_ROW = (
    Panel(
        title="Orders in flight",
        description="Orders at each account now, over all replicas.",
        queries=(Query("sum by (account) (igw_account_orders_in_flight)", "{{account}}"),),
        unit=Unit.COUNT,
    ),
    Panel(
        title="Load against the limits",
        description="The share of the limits of an account that the busiest replica uses. At 100 % orders wait for "
        "their turn.",
        queries=(Query("max by (account) (igw_account_load_ratio)", "{{account}}"),),
        unit=Unit.SHARE,
        limits=(warn_from(0.8), alarm_from(1)),
        when_empty="No account has limits.",
    ),
    Panel(
        title="Waiting for a slot",
        description="How long orders waited for their turn at an account: one of 20 longer than this.",
        queries=(Query(quantile(0.95, "igw_slot_wait_seconds", "", ("account",)), "{{account}}"),),
        unit=Unit.SECONDS,
        limits=(warn_from(5), alarm_from(30)),
    ),
    Panel(
        title="Polls per order",
        description="How often an order was polled until it had ended: on average, and one of 20 this often or more.",
        queries=(
            Query(average("igw_order_polls", select("seller"), ("seller",)), "{{seller}} average"),
            # Polls are whole numbers: between two bounds, the quantile is not.
            Query(
                f"ceil({quantile(0.95, 'igw_order_polls', select('seller'), ('seller',))})",
                "{{seller}} p95",
            ),
        ),
        unit=Unit.COUNT,
    ),
    Panel(
        title="Detection lag",
        description="How long the images were ready before the gateway noticed it: one of 20 longer than this.",
        queries=(Query(quantile(0.95, "igw_detection_lag_seconds", select("seller"), ("seller",)), "{{seller}}"),),
        unit=Unit.SECONDS,
    ),
    Panel(
        title="Acceptance and download",
        description="How long sellers take to accept an order, and to hand out an image: one of 20 longer than this.",
        queries=(
            Query(
                quantile(0.95, "igw_order_acceptance_duration_seconds", select("seller"), ("seller",)),
                "{{seller}} acceptance",
            ),
            Query(
                quantile(0.95, "igw_image_download_duration_seconds", select("seller"), ("seller",)),
                "{{seller}} download",
            ),
        ),
        unit=Unit.SECONDS,
    ),
    Panel(
        title="Limits of accounts, and orders that wait",
        description="How many orders may be in flight at each account now, over all replicas: as configured, or less "
        "after it was overloaded. And the orders that wait for their turn.",
        queries=(
            Query("sum by (account) (igw_account_order_limit)", "{{account}} limit"),
            Query("sum by (account) (igw_account_orders_waiting)", "{{account}} waiting"),
        ),
        unit=Unit.COUNT,
        width=24,
        when_empty="No account has a limit.",
    ),
)

SELLERS = Dashboard(
    uid="igw-sellers",
    title="Image gateway: Sellers",
    description="Who is fast, who fails, and who delivers what was ordered?",
    filters=("seller", "model"),
    rows={
        "Latency": LATENCY_ROW,
        "Faults and circuit breakers": FAULT_ROW,
        "Failovers": FAILOVER_ROW,
        "Conformance": CONFORMANCE_ROW,
        "Limits, load and polls": LIMIT_ROW,
    },
)
