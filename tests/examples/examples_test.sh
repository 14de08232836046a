#!/bin/sh
# The examples as an outside author meets them: unpacked from the dist tar, built by make with cc against its headers
# alone, trained for five steps. The kernel's losses are the built-in ops' to 1e-5, and it is the example that computed.
# Argument: the tar.
set -eu
tar=$PWD/$1
cd "$TEST_TMPDIR"
tar -xzf "$tar"
KUMIKI=$PWD/kumiki
kumiki=$KUMIKI/bin/kumiki
cp -r "$KUMIKI/share/kumiki/examples" .
fail() { echo "$*"; exit 1; }
command -v make >/dev/null || fail "make not found; run: apt-get install make"

# The losses of a run, a line each.
losses() {
  sed -n 's/.*"loss":\([0-9.eE+-]*\).*/\1/p' "runs/$1/metrics.jsonl"
}

# Fails unless both runs have five losses, which agree, and which fall (or rise) as training does: not all the same.
same_losses() {
  losses "$1" >first
  losses "$2" >second
  [ "$(wc -l <first)" = 5 ] || fail "run $1 has $(wc -l <first) losses, not 5"
  [ "$(sort -u first | wc -l)" = 5 ] || fail "the losses of $1 do not change: $(cat first)"
  paste first second | awk '
    { d = $1 - $2; if (d < 0) d = -d; if (NF != 2 || d > 1e-5 * $2) { print "step " NR ": " $1 " and " $2; bad = 1 } }
    END { exit bad }' || fail "losses of $1 and $2 differ"
}

(
  cd examples/kernel-in-c
  make KUMIKI="$KUMIKI" CFLAGS="-O2 -Wall -Werror"
  "$kumiki" train train.toml >with 2>&1 || { cat with; fail "training with the example failed"; }
  "$kumiki" plan train.toml --show training >graph || fail "plan failed"
  [ "$(grep -c '= example.bias_gelu(' graph)" = 2 ] || fail "not every layer has the fused op"
  [ "$(grep -c '= example.bias_gelu_backward(' graph)" = 2 ] || fail "not every layer has one fused backward op"
  ! grep -q '= gelu(' graph || fail "a gelu is left"
  "$kumiki" plan train.toml --show plan >plan || fail "plan failed"
  for op in layernorm example.bias_gelu example.bias_gelu_backward; do
    grep -q " $op .* by example" plan || fail "$op is not computed by the example"
  done
  grep -q ' layernorm_backward .* by ' plan || fail "layernorm_backward is computed by nobody"
  ! grep -q ' layernorm_backward .* by example' plan || fail "layernorm_backward is not left to others"
  "$kumiki" train train.toml --set run.name=builtin --set 'kernels.use=["generic", "reference"]' >without 2>&1 ||
    { cat without; fail "training without the example failed"; }
  same_losses kernel-in-c builtin
  for axis in tensor data; do # which ops of its own lie over ranks as their placement rule says
    "$kumiki" train train.toml --set run.name=$axis --set comm.use=threads --set comm.ranks=2 --set run.threads=1 \
      --set parallel.$axis.degree=2 >on_two 2>&1 || { cat on_two; fail "training over two ranks ($axis) failed"; }
    same_losses $axis builtin
  done
  sed -i 's/, km_place_elements}/}/' example.c
  make -B KUMIKI="$KUMIKI" CFLAGS="-O2 -Wall -Werror"
  if "$kumiki" train train.toml --set run.name=unplaced --set comm.use=threads --set comm.ranks=2 \
    --set parallel.data.degree=2 >refused 2>&1; then fail "an op without placement rule was taken"; fi
  grep -q 'example.bias_gelu has no placement rule' refused || { cat refused; fail "the error does not say what lacks"; }
)
(
  cd examples/optimizer-in-c
  make KUMIKI="$KUMIKI" CFLAGS="-O2 -Wall -Werror"
  "$kumiki" plugin info novograd --file novograd.so | grep -q beta2 || fail "plugin info does not show the options"
  "$kumiki" train train.toml >log 2>&1 || { cat log; fail "training with novograd failed"; }
  # What five steps of NovoGrad gave when its update had been held to the formula (tests/optimizers).
  losses optimizer-in-c | paste - - - - - | awk '
    { split("4.16902 4.16976 4.18973 4.16030 4.13279", golden, " ")
      for (i = 1; i <= 5; ++i) { d = $i / golden[i] - 1; if (d > 1e-4 || d < -1e-4) { print; exit 1 } } }' ||
    fail "other losses than NovoGrad has"
  "$kumiki" train train.toml --set run.name=again --set run.threads=1 >log 2>&1 || { cat log; fail "training again failed"; }
  same_losses optimizer-in-c again
  if "$kumiki" train train.toml --set run.name=wrong --set optimizer.beat1=0.9 >log 2>&1; then fail "beat1 was taken"; fi
  grep -q beta1 log || { cat log; fail "the error does not name beta1"; }
)
echo "both examples build from the tar and train"
