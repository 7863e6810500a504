"""Runs the gateway with all that can go wrong, and audits it: `make chaos JOBS=2000 KILLS=300 STORE=redis SEED=1`."""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.program.chaos_run import ChaosRun
from tests.chaos.program.run_options import RunOptions, StoreKind
from tests.explore.mutants import MUTANTS


def main() -> int:
    options = parse_options()
    # A run that is ended by a signal ends its processes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"{options.command}\nlogs and stores: {options.folder}", flush=True)
    result = ChaosRun(options, lambda line: print(line, flush=True)).run()
    print("\n".join(result.lines))
    if result.is_good:
        shutil.rmtree(options.folder)
    else:
        print(f"\nThe run has failed. Logs and stores: {options.folder}\nRepeat it with: {options.command}")
    print(result.audit.last_line)
    return 0 if result.is_good else 1


def parse_options() -> RunOptions:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=300, help="of gateways")
    parser.add_argument("--store-kills", type=int, help="of Redis; default: one for every twenty kills of gateways")
    parser.add_argument("--store", type=StoreKind, choices=list(StoreKind), default=StoreKind.REDIS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--mutant",
        choices=[mutant.name for mutant in MUTANTS],
        metavar="NAME",
        help="a deliberate bug of the gateways, which the audit should find: %(choices)s",
    )
    arguments = parser.parse_args()
    return RunOptions(
        folder=Path(tempfile.mkdtemp(prefix="image-gateway-chaos-")),
        store=arguments.store,
        jobs=arguments.jobs,
        kills=arguments.kills,
        store_kills=arguments.kills // 20 if arguments.store_kills is None else arguments.store_kills,
        seed=arguments.seed,
        mutant=arguments.mutant,
    )


if __name__ == "__main__":
    sys.exit(main())
