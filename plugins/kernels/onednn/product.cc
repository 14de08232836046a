#include "product.h"

#include <algorithm>
#include <cstring>

namespace kumiki::onednn {
namespace {

using Desc = dnnl::memory::desc;

uint64_t element_bytes(dnnl::memory::data_type type) { return type == dnnl::memory::data_type::bf16 ? 2 : 4; }

/* [rows, columns], stored as such or turned, `stride` elements between stored rows. */
Desc matrix(int64_t rows, int64_t columns, dnnl::memory::data_type type, bool turned, int64_t stride) {
  return Desc({rows, columns}, type, turned ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1});
}

} // namespace

int64_t good_row_block(int64_t m, bool transpose_a) {
  if (transpose_a) {
    /* These primitives pack b anew for each block: few, an even number, at most 768 rows. */
    const int64_t blocks = 2 * ((m + 1535) / 1536);
    return std::max<int64_t>(32, static_cast<int64_t>(round_up(static_cast<uint64_t>((m + blocks - 1) / blocks), 16)));
  }
  if (m >= 1024) return 256;
  return std::max<int64_t>(32, static_cast<int64_t>(round_up(static_cast<uint64_t>((m + 3) / 4), 16)));
}

int64_t good_column_block(int64_t m, int64_t n) { return m <= 32 && n >= 1024 ? 512 : n; }

Product::Product(const Instance& instance, const ProductSizes& sizes, bool pack) : instance_(instance), sizes_(sizes) {
  if (sizes.m < 1 || sizes.n < 1 || sizes.k < 1) throw Unsupported("a product with no element");
  sizes_.row_block = std::min(sizes.row_block, sizes.m);
  sizes_.column_block = std::min(sizes.column_block, sizes.n);
  SingleThread single;
  for (bool last_column : {false, true})
    for (bool last_row : {false, true}) describe_block(last_row, last_column, pack);
}

Desc Product::plain_b(int64_t columns) const {
  return matrix(sizes_.k, columns, sizes_.in, sizes_.transpose_b, sizes_.ldb);
}

void Product::describe_block(bool last_row, bool last_column, bool pack) {
  const int64_t rows = rows_of(last_row), columns = columns_of(last_column);
  const Desc a = matrix(rows, sizes_.k, sizes_.in, sizes_.transpose_a, sizes_.lda);
  const Desc c = matrix(rows, columns, sizes_.out, false, sizes_.ldc);
  const Desc bias({1, columns}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::ab);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (sizes_.sum) {
    dnnl::post_ops post;
    post.append_sum(1.0f);
    attributes.set_post_ops(post);
  }
  std::optional<Desc>& packed = packed_b_[last_column];
  const Desc any({sizes_.k, columns}, sizes_.in, dnnl::memory::format_tag::any);
  const Desc b = packed ? *packed : pack ? any : plain_b(columns);
  std::optional<dnnl::matmul::primitive_desc>& description = blocks_[last_row][last_column].description;
  try {
    description = sizes_.bias ? dnnl::matmul::primitive_desc({a, b, bias, c}, attributes, instance_.engine)
                              : dnnl::matmul::primitive_desc({a, b, c}, attributes, instance_.engine);
  } catch (const dnnl::error& error) {
    throw Unsupported(std::string("oneDNN has no matmul for this: ") + error.what());
  }
  if (std::strncmp(description->impl_info_str(), "ref", 3) == 0)
    throw Unsupported("oneDNN has only its slow reference matmul for this");
  packed = description->weights_desc();
  if (*packed != plain_b(columns)) packs_ = true;
  scratch_bytes_ = std::max<uint64_t>(scratch_bytes_, round_up(description->scratchpad_desc().get_size(), 256));
}

dnnl::memory Product::operand(const Desc& desc) const { return dnnl::memory(desc, instance_.engine, nullptr); }

void Product::prepare() {
  SingleThread single;
  for (auto& row : blocks_) {
    for (Block& block : row) {
      const dnnl::matmul::primitive_desc& d = *block.description;
      block.primitive = dnnl::matmul(d);
      for (uint32_t worker = 0; worker < instance_.threads; ++worker)
        block.operands.push_back({{{DNNL_ARG_SRC, operand(d.src_desc())},
                                   {DNNL_ARG_WEIGHTS, operand(d.weights_desc())},
                                   {DNNL_ARG_DST, operand(d.dst_desc())},
                                   {DNNL_ARG_SCRATCHPAD, operand(d.scratchpad_desc())},
                                   {DNNL_ARG_BIAS, sizes_.bias ? operand(d.bias_desc()) : dnnl::memory()}}});
    }
  }
  for (uint32_t task = 0; packs_ && task < pack_tasks(); ++task) packings_.push_back(make_packing(task));
}

uint64_t Product::packed_stride() const { return round_up(packed_b_[0]->get_size(), 256); }

uint64_t Product::packed_bytes() const {
  return (column_blocks() - 1) * packed_stride() + round_up(packed_b_[1]->get_size(), 256);
}

std::string Product::packed_format() const {
  /* The descriptor says all of the layout; its bytes name it. A square b looks the same turned, but packs to others. */
  uint64_t hash = 14695981039346656037u;
  const auto* bytes = reinterpret_cast<const unsigned char*>(&packed_b_[0]->data);
  for (size_t i = 0; i < sizeof packed_b_[0]->data; ++i) hash = (hash ^ bytes[i]) * 1099511628211u;
  return std::string(sizes_.transpose_b ? "onednn turned " : "onednn ") + std::to_string(sizes_.column_block) +
         " columns " + std::to_string(hash);
}

/* A column block is packed in pieces of whole inner blocks of the layout, which are at most 64 columns wide. */
constexpr int64_t kPackColumns = 256;

uint32_t Product::pack_pieces() const {
  return static_cast<uint32_t>((sizes_.column_block + kPackColumns - 1) / kPackColumns);
}

Product::Packing Product::make_packing(uint32_t task) const {
  const uint32_t block = task / pack_pieces();
  const bool last = block + 1 == column_blocks();
  const int64_t columns = columns_of(last), within = task % pack_pieces() * kPackColumns;
  Packing packing;
  if (within >= columns) return packing;
  const int64_t width = std::min(kPackColumns, columns - within), first = block * sizes_.column_block + within;
  packing.from_offset = static_cast<uint64_t>(first * (sizes_.transpose_b ? sizes_.ldb : 1)) * element_bytes(sizes_.in);
  packing.to_offset = block * packed_stride();
  packing.from = operand(plain_b(width));
  packing.to = operand(packed_b_[last]->submemory_desc({sizes_.k, width}, {0, within}));
  packing.primitive = dnnl::reorder(packing.from, packing.to);
  return packing;
}

namespace {

void* moved(const void* base, uint64_t bytes) { return const_cast<char*>(static_cast<const char*>(base) + bytes); }

/* An address that is the same as at the last call is not set again: oneDNN would clear the padding behind it again. */
void set_address(const dnnl::memory& memory, const void* address) {
  if (memory.get_data_handle() != address) memory.set_data_handle(const_cast<void*>(address));
}

/* As dnnl::primitive::execute, which makes a table of its arguments in fresh memory. */
void execute(const dnnl::primitive& primitive, const dnnl::stream& stream, const dnnl_exec_arg_t* arguments, int n) {
  dnnl::error::wrap_c_api(dnnl_primitive_execute(primitive.get(), stream.get(), n, arguments),
                          "could not execute a primitive");
}

} // namespace

void Product::pack_task(uint32_t task, uint32_t worker, const void* plain, void* packed) const {
  const Packing& packing = packings_[task];
  if (!packing.primitive) return;
  set_address(packing.from, moved(plain, packing.from_offset));
  set_address(packing.to, moved(packed, packing.to_offset));
  const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, packing.from.get()}, {DNNL_ARG_TO, packing.to.get()}};
  execute(packing.primitive, instance_.streams[worker], arguments, 2);
}

void Product::run_task(uint32_t task, uint32_t worker, const void* a, const void* b, const float* bias, void* c,
                       void* scratch) const {
  const uint32_t row = task % row_blocks(), column = task / row_blocks();
  const bool last_row = row + 1 == row_blocks(), last_column = column + 1 == column_blocks();
  const Block& block = blocks_[last_row][last_column];
  const int64_t i = row * sizes_.row_block, j = column * sizes_.column_block;
  const uint64_t in = element_bytes(sizes_.in), out = element_bytes(sizes_.out);
  const Operands& operands = block.operands[worker];
  set_address(operands[kA].memory, moved(a, static_cast<uint64_t>(i * (sizes_.transpose_a ? 1 : sizes_.lda)) * in));
  set_address(operands[kB].memory,
              moved(b, packs_ ? column * packed_stride()
                              : static_cast<uint64_t>(j * (sizes_.transpose_b ? sizes_.ldb : 1)) * in));
  set_address(operands[kC].memory, moved(c, static_cast<uint64_t>(i * sizes_.ldc + j) * out));
  set_address(operands[kScratch].memory, scratch);
  if (sizes_.bias) set_address(operands[kBias].memory, bias + j);
  const int n = sizes_.bias ? kOperands : kOperands - 1;
  dnnl_exec_arg_t arguments[kOperands];
  for (int k = 0; k < n; ++k) arguments[k] = {operands[k].argument, operands[k].memory.get()};
  execute(block.primitive, instance_.streams[worker], arguments, n);
}

} // namespace kumiki::onednn
