#!/bin/sh
# Set up the client libraries that tests/sdk try against a cloud, each in a folder of its own below build/sdk.
# Then: SKERRY_TEST_SDKS=1 python -m pytest tests/sdk
set -eu
cd "$(dirname "$0")/.."
OPENAI_NODE=7.57.0
NODE=22.23.3
PYTHON=${PYTHON:-python3}
mkdir -p build/sdk
for client in langchain llamaindex litellm; do
    folder=build/sdk/$client
    pins=tests/sdk/pins/$client.txt
    if ! cmp -s "$pins" "$folder/pins.txt"; then
        rm -rf "$folder"
        "$PYTHON" -m venv "$folder"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "$pins"
        cp "$pins" "$folder/pins.txt"
    fi
    echo "$client: $folder"
done
if ! command -v npm > /dev/null; then
    echo "node: npm is missing, so the SDK for Node is left out (on Debian: apt-get install npm)"
    exit 0
fi
mkdir -p build/sdk/node
cd build/sdk/node
printf '{"private": true, "type": "module"}\n' > package.json
# The SDK wants Node 22; the registry has it as a package.
npm install --silent --no-package-lock --no-fund --no-audit "openai@$OPENAI_NODE" "node@$NODE"
echo "node: build/sdk/node, Node $(node_modules/.bin/node --version)"
