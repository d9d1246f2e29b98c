"""Counts what the suites of ./quickstart test did, and ends with one line: N passed, N failed, N skipped.

    report.py BUILD RESULTS EXPECTED_SKIPS [SYSTEM]

BUILD/tests holds automake's .trs and .log files, RESULTS the junit files of pytest and the TAP of node. A skip must match
a line of EXPECTED_SKIPS ([unless-root] SUITE PATTERN, then # and why), or it counts as a failure: a test that silently does not run
protects nothing. SYSTEM is where ./quickstart test --system left its junit file, or a file that says why it was skipped.
"""

import collections
import fnmatch
import os
import pathlib
import re
import sys
import xml.etree.ElementTree

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
Result = collections.namedtuple("Result", "suite name outcome")

CMOCKA = re.compile(r"^\[\s+(OK|FAILED|SKIPPED|ERROR)\s+\] (\w+)$", re.M)
CMOCKA_OUTCOMES = {"OK": PASSED, "FAILED": FAILED, "ERROR": FAILED, "SKIPPED": SKIPPED}
AUTOMAKE_OUTCOMES = {"PASS": PASSED, "XFAIL": PASSED, "SKIP": SKIPPED}
TAP = re.compile(r"^(not )?ok \d+ - (.*?)(?: # (SKIP|TODO).*)?$", re.M)


def read_check(build):
    """Programs of make check; those that print cmocka's lines count by their tests."""
    for trs in sorted((build / "tests").rglob("*.trs")):
        outcome = AUTOMAKE_OUTCOMES.get(re.search(r"^:global-test-result: (\w+)", trs.read_text(), re.M)[1], FAILED)
        log = trs.with_suffix(".log")
        name = str(trs.relative_to(build).with_suffix(""))
        # The last word on a test counts: cmocka repeats the failed ones at the end.
        tests = dict((test, CMOCKA_OUTCOMES[word]) for word, test in
                     CMOCKA.findall(log.read_text(errors="replace") if log.exists() else ""))
        for test, of_test in tests.items():
            yield Result("check", f"{name}: {test}", of_test)
        # A program that died has a failure of its own, whatever its tests said before.
        if not tests or (outcome == FAILED and FAILED not in tests.values()):
            yield Result("check", name, outcome)


def read_junit(suite, path):
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        outcome = PASSED
        if case.find("failure") is not None or case.find("error") is not None:
            outcome = FAILED
        elif case.find("skipped") is not None:
            outcome = SKIPPED
        yield Result(suite, f"{case.get('classname')}.{case.get('name')}", outcome)


def read_tap(suite, path):
    for negation, name, directive in TAP.findall(path.read_text()):
        yield Result(suite, name, SKIPPED if directive else FAILED if negation else PASSED)


def read_expected(path):
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    if os.geteuid() != 0:
        lines = [line.removeprefix("unless-root ") for line in lines]
    fields = (line.split(None, 1) for line in lines if not line.startswith("unless-root "))
    return [(f[0], f[1]) for f in fields if len(f) == 2]


def read_system(folder):
    if (folder / "skipped").exists():
        return [Result("system", "the whole suite", SKIPPED)]
    kernel = [Result("system", "the kernel of Debian 12", SKIPPED)] if (folder / "kernel-skipped").exists() else \
        read_junit("system", folder / "kernel.xml")
    return [*read_junit("system", folder / "system.xml"), *read_junit("system", folder / "package.xml"), *kernel]


def read_suites(build, results, system):
    for suite, read in (("check", lambda: read_check(build)),
                        ("oracle", lambda: read_junit("oracle", results / "oracle.xml")),
                        ("integration", lambda: read_junit("integration", results / "integration.xml")),
                        ("npm", lambda: read_tap("npm", results / "npm.tap")),
                        *((("system", lambda: read_system(system)),) if system else ())):
        try:
            found = list(read())
        except (OSError, xml.etree.ElementTree.ParseError) as error:
            print(f"{suite}: no result: {error}")
            found = []
        # A suite that ran nothing is as bad as one that failed.
        yield from found or [Result(suite, "the whole suite", FAILED)]


def main():
    build, results, expected_path, system = [*map(pathlib.Path, sys.argv[1:]), None][:4]
    expected = read_expected(expected_path)
    counts = collections.Counter()
    unexpected = 0
    for result in read_suites(build, results, system):
        counts[result.suite, result.outcome] += 1
        if result.outcome == FAILED:
            print(f"FAILED {result.suite}: {result.name}")
        if result.outcome == SKIPPED:
            known = any(suite == result.suite and fnmatch.fnmatchcase(result.name, pattern) for suite, pattern in expected)
            unexpected += not known
            print(f"skipped{'' if known else ', UNEXPECTEDLY'} {result.suite}: {result.name}")
    total = collections.Counter()
    for suite in dict.fromkeys(suite for suite, _ in counts):
        for outcome in (PASSED, FAILED, SKIPPED):
            total[outcome] += counts[suite, outcome]
        print(f"{suite}: " + ", ".join(f"{counts[suite, o]} {o}" for o in (PASSED, FAILED, SKIPPED)))
    if unexpected:
        print(f"{unexpected} skipped without a line in {expected_path}")
    print(f"{total[PASSED]} passed, {total[FAILED]} failed, {total[SKIPPED]} skipped")
    return 1 if total[FAILED] or unexpected else 0


sys.exit(main())
