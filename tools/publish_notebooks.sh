#!/bin/sh
# Push the executed notebooks of the built pages to the branch `notebooks`, without history: Colab opens notebooks from a
# repository only. The working tree and its index are left alone.
set -eu
cd "$(dirname "$0")/.."
test -d _build/html/notebooks || { echo "No notebooks are built: run make book first" >&2; exit 1; }
GIT_DIR=$(git rev-parse --absolute-git-dir)
GIT_INDEX_FILE=$(mktemp -u)
export GIT_DIR GIT_INDEX_FILE
trap 'rm -f "$GIT_INDEX_FILE"' EXIT
git --work-tree=_build/html/notebooks add --all --force
commit=$(git -c user.name=publish -c user.email=publish@localhost commit-tree "$(git write-tree)" -m "Executed notebooks")
git push --quiet --force origin "$commit:refs/heads/notebooks"
