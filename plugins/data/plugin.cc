// The plugin `data`: the built-in components of kind "data" in one table.
#include "kumiki/plugin.h"

#include "dataset.h"

namespace kumiki::data {
namespace {

constexpr km_option path_option(const char* help) {
  return {"path", KM_OPTION_PATH, KM_OPTION_REQUIRED, nullptr, 0, 0, nullptr, help};
}
constexpr km_option shuffle_option() {
  return {"shuffle", KM_OPTION_BOOL, 0, "true", 0, 0, nullptr, "each epoch in another order, by the seed"};
}
constexpr km_option split_option(const char* standard, const char* help) {
  return {"split", KM_OPTION_STRING, 0, standard, 0, 0, nullptr, help};
}
constexpr km_option segments_option() {
  return {"segments", KM_OPTION_BOOL,
          0,          "false",
          0,          0,
          nullptr,    "keep documents apart: attention does not cross their borders, and no loss is counted there"};
}
constexpr km_option tokenizer_option(const char* help) {
  return {"tokenizer", KM_OPTION_PATH, 0, nullptr, 0, 0, nullptr, help};
}

constexpr km_option kTextOptions[] = {
    path_option("a text file, or a folder whose files are read, with all below it; UTF-8, .gz too"),
    tokenizer_option("a SentencePiece model; absent: bytes are the tokens"),
    split_option("98,2,0", "shares of training, validation and test: contiguous parts of the text, by tokens"),
    shuffle_option(),
    segments_option(),
    {"cache", KM_OPTION_PATH, 0, nullptr, 0, 0, nullptr,
     "a folder that keeps the tokens for the next run; absent: none"},
};
constexpr km_option kSyntheticOptions[] = {
    {"vocabulary", KM_OPTION_I64, 0, "256", 2, 16777216, nullptr, "number of tokens; at most the model's if not given"},
    {"noise", KM_OPTION_F64, 0, "0.1", 0, 1, nullptr, "how often a token is drawn at random"},
};
constexpr km_option vocabulary_option(const char* help) {
  return {"vocabulary", KM_OPTION_I64, 0, nullptr, 1, 2147483647, nullptr, help};
}
constexpr km_option kTokensOptions[] = {
    path_option("a .bin file of llm.c or nanoGPT, a pattern such as fineweb_train_*.bin, or a folder of them"),
    {"format", KM_OPTION_STRING, 0, "auto", 0, 0, "auto|llmc|nanogpt",
     "auto: llm.c where the file has its magic number"},
    vocabulary_option("number of tokens; absent: the tokenizer's, the format's (llm.c), the model's"),
    tokenizer_option("a SentencePiece model, to show text; absent: none"),
    split_option("98,2,0",
                 "shares of training, validation and test, by tokens; not used where files are named train and val"),
    shuffle_option(),
};
constexpr km_option kMegatronOptions[] = {
    path_option("a .bin/.idx pair of Megatron-LM: its path, with or without the ending"),
    vocabulary_option("number of tokens; absent: the tokenizer's, or the model's"),
    tokenizer_option("the SentencePiece model that the data was made with, to show text; absent: none"),
    split_option("969,30,1", "shares of training, validation and test, by documents"),
    shuffle_option(),
    segments_option(),
};
constexpr km_option kTokenizerOptions[] = {tokenizer_option("a SentencePiece model; absent: bytes are the tokens")};

constexpr km_data kText = dataset_table<make_text>();
constexpr km_data kSynthetic = dataset_table<make_synthetic>();
constexpr km_data kTokens = dataset_table<make_tokens>();
constexpr km_data kMegatron = dataset_table<make_megatron>();
constexpr km_data kTokenizer = dataset_table<make_tokenizer>();

template <size_t count>
constexpr km_component component(const char* name, const km_data& table, const km_option (&options)[count],
                                 const char* summary) {
  return {"data", name, KM_DATA_VERSION, static_cast<uint32_t>(count), &table, options, summary};
}

constexpr km_component kComponents[] = {
    component("text", kText, kTextOptions, "text files, as bytes or SentencePiece tokens"),
    component("tokens", kTokens, kTokensOptions, "token files of llm.c and nanoGPT, memory mapped"),
    component("megatron", kMegatron, kMegatronOptions,
              "indexed data sets of Megatron-LM (.bin and .idx), memory mapped"),
    component("synthetic", kSynthetic, kSyntheticOptions, "an endless text that a model can learn, for tests"),
    component("tokenizer", kTokenizer, kTokenizerOptions, "a tokenizer without a corpus, for `kumiki data tokenize`"),
};

constexpr km_plugin kPlugin = {sizeof(km_plugin),
                               KM_ABI_MINOR,
                               "data",
                               "0.1.0",
                               "Kumiki",
                               "Apache-2.0",
                               kComponents,
                               sizeof kComponents / sizeof kComponents[0],
                               sizeof(km_component),
                               sizeof(km_option),
                               0};

} // namespace
} // namespace kumiki::data

KM_PLUGIN(kumiki::data::kPlugin)
