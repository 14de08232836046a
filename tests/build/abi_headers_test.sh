#!/bin/sh
# Each header of abi/ compiles alone, twice over, and beside all others, as strict C11 and as C++17 and C++20.
set -eu
cd abi
headers=$(ls kumiki/*.h)
everything=$(for header in $headers; do printf '#include "%s"\n' "$header"; done)
check() { # language, text
  for standard in $1; do
    case $standard in c11) compiler="gcc -x c" ;; *) compiler="g++ -x c++" ;; esac
    printf '%s\n' "$2" |
      $compiler -std="$standard" -pedantic -Wall -Wextra -Wstrict-aliasing -Werror -I. -fsyntax-only -
  done
}
for header in $headers; do
  once="#include \"$header\""
  check "c11 c++17 c++20" "$once
$once
int main(void);"
  echo "$header: alone, as C11, C++17, C++20"
done
check "c11 c++17 c++20" "$everything
int main(void);"
# The check can fail: an extension of GNU is refused.
if check c11 'int f(void); int f(void) { return ({ 1; }); }' 2>/dev/null; then
  echo "-pedantic -Werror let a GNU extension pass"
  exit 1
fi
