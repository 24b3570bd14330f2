# The five commands everyone needs.

# install for development
install:
    pip install -c constraints.txt -e ".[dev]"
    pre-commit install

# all tests
test *arguments:
    pytest {{arguments}}

# what the linters and type checkers say
check:
    ruff check . && ruff format --check . && mypy && lint-imports

# format everything
format:
    ruff format . && ruff check --fix .

# the main job
run *arguments:
    study run weighting {{arguments}}
