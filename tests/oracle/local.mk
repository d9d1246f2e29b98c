# The reference and what it made; run by ./quickstart test (pytest).
EXTRA_DIST += tests/fixtures tests/oracle/make_fixture.py tests/oracle/reference.py tests/oracle/test_oracle.py
