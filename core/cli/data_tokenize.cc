#include "core/cli/data_tokenize.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/base/threads.h"
#include "core/plugin/host.h"

namespace kumiki {
namespace {

constexpr size_t kBatchBytes = 1u << 18; // of text that one thread takes at a time

// Pieces in order, and their tokens once a worker is done with them.
struct Batch {
  std::vector<TextPiece> pieces;
  std::vector<std::vector<int32_t>> tokens;
  std::exception_ptr error;
  bool done = false;
};

std::vector<int32_t> encode(const TokenizeRequest& request, const TextPiece& piece) {
  std::vector<int32_t> tokens(piece.text.size() + 16);
  for (;;) {
    uint64_t count = 0;
    const km_status status = request.tokenizer->encode(request.self, piece.text.data(), piece.text.size(),
                                                       tokens.data(), tokens.size(), &count);
    if (status != KM_OK) {
      try {
        check(status, request.title, "encode");
      } catch (const Error& error) {
        throw Error(piece.where, error.what());
      }
    }
    const bool all = count <= tokens.size();
    tokens.resize(count);
    if (all) return tokens;
  }
}

// Threads that take batches as they come. Batches are given back to the caller by their own order.
class Workers {
 public:
  explicit Workers(const TokenizeRequest& request) : request_(request) {
    for (unsigned i = 0; i < request.threads; ++i) threads_.push_back(start_thread([this] { work(); }));
  }
  ~Workers() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void give(Batch* batch) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      waiting_.push_back(batch);
    }
    changed_.notify_all();
  }
  void wait_for(const Batch& batch) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return batch.done; });
  }

 private:
  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
      if (stop_) return;
      Batch* const batch = waiting_.front();
      waiting_.pop_front();
      lock.unlock();
      try {
        for (const TextPiece& piece : batch->pieces) batch->tokens.push_back(encode(request_, piece));
      } catch (...) {
        batch->error = std::current_exception();
      }
      lock.lock();
      batch->done = true;
      changed_.notify_all();
    }
  }

  const TokenizeRequest& request_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch*> waiting_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

std::unique_ptr<Batch> read_batch(DocumentReader& reader) {
  auto batch = std::make_unique<Batch>();
  size_t bytes = 0;
  for (TextPiece piece; bytes < kBatchBytes && reader.next(piece);) {
    bytes += piece.text.size() + sizeof piece;
    batch->pieces.push_back(std::move(piece));
  }
  return batch->pieces.empty() ? nullptr : std::move(batch);
}

void write_batch(const Batch& batch, int32_t end_of_document, MegatronWriter& writer) {
  if (batch.error) std::rethrow_exception(batch.error);
  for (size_t i = 0; i < batch.pieces.size(); ++i) {
    writer.add(batch.tokens[i].data(), batch.tokens[i].size());
    if (!batch.pieces[i].ends_document) continue;
    if (end_of_document >= 0) writer.add(&end_of_document, 1);
    writer.end_document();
  }
}

} // namespace

void tokenize(DocumentReader& reader, MegatronWriter& writer, const TokenizeRequest& request,
              const std::function<void()>& progress) {
  const int32_t end = request.end_of_document ? request.tokenizer->end_of_document(request.self) : -1;
  std::deque<std::unique_ptr<Batch>> in_order;
  Workers workers(request); // after the batches, so that it stops before they are gone
  const size_t most = 4 * static_cast<size_t>(request.threads);
  for (bool more = true; more || !in_order.empty();) {
    if (more && in_order.size() < most) {
      std::unique_ptr<Batch> batch = read_batch(reader);
      more = batch != nullptr;
      if (!more) continue;
      in_order.push_back(std::move(batch));
      workers.give(in_order.back().get());
    } else {
      workers.wait_for(*in_order.front());
      write_batch(*in_order.front(), end, writer);
      in_order.pop_front();
      progress();
    }
  }
}

} // namespace kumiki
