# The two commands of the README, and the gates. Each sets up what is missing first (.ci/setup).

READY = settings=$$(sh .ci/setup) && eval "$$settings" &&

.PHONY: demo test bench fmt clippy doc tidy ci

# The main job: 200 000 clicks, killed twice, every click accounted for.
demo:
	@$(READY) cargo run --example clickstream

test:
	@$(READY) cargo test

bench:
	@$(READY) cargo bench --profile dev

fmt:
	@cargo fmt --all

clippy doc tidy:
	@$(READY) bash .ci/$@

ci:
	@bash .ci/run
