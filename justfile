# The commands that are typed most; `just` lists them.

default:
    @just --list

# Does it compile, with what lints say
check:
    cargo clippy --locked --all-targets -- -D warnings

# The tests that need no other program
fast:
    cargo nextest run --locked --lib --test architecture

# The tests whose name has FILTER
test FILTER:
    cargo nextest run --locked -E 'test({{ FILTER }})'

# Everything that must pass before a change lands
ci:
    .ci/run

# The main job, end to end, with the status page
demo:
    ./deploy/demo.sh
