// tokenize: text files to a Megatron .bin/.idx pair, by any component that has the ability "kumiki.tokenizer/1". One
// thread reads and writes, the others tokenize; the result does not depend on their number. Floor: cli.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/cli/data_documents.h"
#include "core/cli/data_writer.h"
#include "kumiki/data.h"

namespace kumiki {

struct TokenizeRequest {
  const km_tokenizer* tokenizer; // encode is called from several threads at once
  void* self;
  std::string title;           // of the component, for errors
  unsigned threads = 1;        // ≥ 1; those that tokenize
  bool end_of_document = true; // append the tokenizer's token after each document, where it has one
};

// Until the reader's end. progress is called now and then from the calling thread. Throws Error that names the file and
// place of text that cannot be tokenized.
void tokenize(DocumentReader& reader, MegatronWriter& writer, const TokenizeRequest& request,
              const std::function<void()>& progress);

} // namespace kumiki
