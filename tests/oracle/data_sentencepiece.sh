#!/usr/bin/env bash
# Makes the golden SentencePiece model of tests/data and prints what spm_encode says of the test's sentences.
# Example: tests/oracle/data_sentencepiece.sh tests/data/golden
# Needs: apt-get install sentencepiece
set -euo pipefail
target=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cd "$folder" # the model keeps the names that it is given: relative ones make the same bytes everywhere
cat >corpus.txt <<'TEXT'
the quick brown fox jumps over the lazy dog
the dog sleeps and the fox runs away
a small model learns a small text
吾輩は猫である。名前はまだ無い。
どこで生れたかとんと見当がつかぬ。
何でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。
TEXT
spm_train --input=corpus.txt --model_prefix=tiny --vocab_size=360 --model_type=bpe --byte_fallback=true \
  --normalization_rule_name=identity \
  --remove_extra_whitespaces=false --character_coverage=1 --unk_id=0 --bos_id=1 --eos_id=2 >/dev/null 2>&1
cp tiny.model "$target/tiny.model"
for text in 'the lazy fox' '吾輩は犬である。' $'a\tb'; do
  printf '%s\n' "$text" | spm_encode --model=tiny.model --output_format=id
done
