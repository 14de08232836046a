/* cast.cc: f32 to bf16 and back, over the pool. */
#include <algorithm>

#include "instance.h"
#include "row_math.h"

namespace kumiki::onednn {
namespace {

class Cast final : public Kernel {
 public:
  Cast(const Instance& instance, const km_op& op) : instance_(instance), elements_(km_elements(&op.inputs[0])) {
    const uint32_t from = op.inputs[0].dtype, to = op.outputs[0].dtype;
    if (!((from == KM_F32 && to == KM_BF16) || (from == KM_BF16 && to == KM_F32)))
      throw Unsupported("only between f32 and bf16");
    to_bf16_ = to == KM_BF16;
  }
  void describe(km_support*) const override {}
  void prepare() override {}
  void run(const km_address* buffers, void*) override {
    constexpr int64_t kElements = 65536; /* of one task */
    const void* x = pointer(buffers[0]);
    void* y = pointer(buffers[1]);
    instance_.run(static_cast<uint32_t>((elements_ + kElements - 1) / kElements), [&](uint32_t task, uint32_t) {
      const int64_t first = task * kElements, n = std::min(kElements, elements_ - first);
      if (to_bf16_)
        row_math().to_bf16(static_cast<const float*>(x) + first, n, static_cast<uint16_t*>(y) + first);
      else
        row_math().from_bf16(static_cast<const uint16_t*>(x) + first, n, static_cast<float*>(y) + first);
    });
  }

 private:
  const Instance& instance_;
  int64_t elements_;
  bool to_bf16_ = false;
};

} // namespace

std::unique_ptr<Kernel> make_cast(const Instance& instance, const km_request& request) {
  return std::make_unique<Cast>(instance, *request.op);
}

} // namespace kumiki::onednn
