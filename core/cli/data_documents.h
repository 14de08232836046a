// DocumentReader: the documents of text files, in pieces that can be tokenized one by one. In: files and folders, .gz
// too. Out: pieces of about 1 MiB, in order. Memory does not grow with the files (but a line of `lines` and `jsonl` is
// held whole). Floor: cli.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kumiki {

enum class DocumentForm {
  kFile,  // a file is a document
  kLine,  // each line is one; empty lines are none
  kJsonl, // each line is a JSON object, the document its string `key`
};

struct TextPiece {
  std::string text;
  std::string where; // for errors: "corpus.txt from byte 1048576", "corpus.jsonl:12"
  bool ends_document = false;
};

class DocumentReader {
 public:
  // Folders are read with all below them, in the order of paths; hidden files are left out. Throws Error.
  DocumentReader(const std::vector<std::string>& inputs, DocumentForm form, const std::string& key);
  ~DocumentReader();
  DocumentReader(const DocumentReader&) = delete;
  DocumentReader& operator=(const DocumentReader&) = delete;

  // False at the end. Throws Error that names the file and place.
  bool next(TextPiece& piece);

  // On the disk (of packed files their packed size): read so far, and in all.
  int64_t bytes_read() const;
  int64_t bytes() const { return bytes_; }
  size_t files() const { return files_.size(); }

 private:
  class Input;
  struct File {
    std::string path;
    int64_t bytes;
  };
  bool next_of_file(TextPiece& piece);
  bool next_of_lines(TextPiece& piece);
  bool open_next();

  DocumentForm form_;
  std::string key_;
  std::vector<File> files_;
  int64_t bytes_ = 0;
  size_t file_ = 0;              // number of the next file
  int64_t bytes_before_ = 0;     // of the files that are done
  std::unique_ptr<Input> input_; // null between files
};

} // namespace kumiki
