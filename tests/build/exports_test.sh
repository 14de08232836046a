#!/bin/sh
# Every plugin exports exactly one symbol, kumiki_plugin_v0. Arguments: the plugins.
set -eu
faults=0
for plugin; do
  exports=$(nm -D --defined-only "$plugin" | awk '{print $2, $3}')
  if [ "$exports" = "T kumiki_plugin_v0" ]; then
    echo "$plugin: one export"
  else
    printf '%s exports other than "T kumiki_plugin_v0":\n%s\n' "$plugin" "$exports"
    faults=$((faults + 1))
  fi
done
[ $# -gt 0 ] || { echo "no plugin was given"; exit 1; }
[ "$faults" = 0 ]
