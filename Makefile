# The two commands of the README, and the gates. Each sets up what is missing first (.ci/setup).

READY = settings=$$(sh .ci/setup) && eval "$$settings" &&

.PHONY: demo test bench torture fmt clippy doc tidy ci

# The main job: 200 000 clicks, killed twice, every click accounted for.
demo:
	@$(READY) cargo run --example clickstream

test:
	@$(READY) cargo test

bench:
	@$(READY) cargo bench --profile dev

# The log under power cuts, kills and faults for so long: make torture TIME=30m (h, m, s)
TIME ?= 30m
torture:
	@$(READY) bash .ci/torture $(TIME)

fmt:
	@cargo fmt --all

clippy doc tidy:
	@$(READY) bash .ci/$@

ci:
	@bash .ci/run
