#include "tests/parallel/world.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>

#include "kumiki/kernels.h"
#include "tests/parallel/collectives.h"
#include "tests/parallel/leaves.h"

namespace kumiki::test {
namespace {

using Bytes = std::vector<unsigned char>;
constexpr int32_t kOnce = -1; // in place of a micro-batch: values of the head, the tail and leaves

std::vector<float> floats(const Bytes& bytes) {
  std::vector<float> out(bytes.size() / sizeof(float));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}
template <typename T>
Bytes bytes_of(const std::vector<T>& elements) {
  Bytes out(elements.size() * sizeof(T));
  std::memcpy(out.data(), elements.data(), out.size());
  return out;
}

Shape whole_shape(const Value& leaf) { return leaf.logical_shape.empty() ? leaf.type.shape : leaf.logical_shape; }

bool is_collective(const Node& node) { return is_communication(node.op) && node.op != "replicate"; }

} // namespace

struct World::Item {
  const Node* node = nullptr;
  int32_t micro = kOnce;
  enum class Kind { kRun, kSend, kReceive } kind = Kind::kRun;
};

struct World::Rank {
  Rank(const Layout& layout, int64_t number) : index(static_cast<size_t>(number)), mesh(layout, number) {}
  size_t index;
  Mesh mesh;
  std::unique_ptr<Graph> graph;
  std::vector<Item> list;
  size_t at = 0;
  std::map<std::pair<ValueId, int32_t>, Bytes> memory;
  std::vector<std::pair<ValueId, Bytes>> assigned;
  // Of whole sequences [batch, tokens] those that this rank reads: chunks c and 2n-1-c of 2n for coordinate c of n.
  std::vector<int32_t> own_tokens(const std::vector<int32_t>& whole) const {
    int64_t degree = 1;
    for (const Axis& axis : mesh.axes())
      if (axis.name == "context") degree = axis.degree;
    if (degree == 1) return whole;
    const int64_t tokens = whole_shape(graph->value(graph->find("tokens")))[1], chunk = tokens / (2 * degree);
    std::vector<int32_t> own;
    for (size_t row = 0; row < whole.size(); row += static_cast<size_t>(tokens))
      for (const int64_t number : {mesh.coordinate("context"), 2 * degree - 1 - mesh.coordinate("context")})
        own.insert(own.end(), whole.begin() + static_cast<std::ptrdiff_t>(row) + number * chunk,
                   whole.begin() + static_cast<std::ptrdiff_t>(row) + (number + 1) * chunk);
    return own;
  }
  std::map<std::string, int64_t> met; // by group: how many of its collectives are over

  int32_t slot(ValueId id, int32_t micro) const {
    const Value& value = graph->value(id);
    if (value.producer == 0) return value.varies ? micro : kOnce;
    const Node& node = graph->node(value.producer);
    return node.phase == Phase::kBody && node.op != "accumulate" ? micro : kOnce;
  }
  const Bytes& get(ValueId id, int32_t micro) const {
    const auto found = memory.find({id, slot(id, micro)});
    if (found == memory.end())
      throw std::runtime_error("rank " + std::to_string(index) + " has no %" + std::to_string(id) + ":" +
                               graph->value(id).name + " of micro-batch " + std::to_string(micro));
    return found->second;
  }
  void put(ValueId id, int32_t micro, Bytes bytes) { memory[{id, slot(id, micro)}] = std::move(bytes); }
};

// A collective, or a message, of some ranks.
struct World::Meeting {
  std::map<size_t, std::vector<Numbers32>> inputs; // by rank
  std::map<size_t, std::vector<Shape>> shapes;
  std::map<size_t, std::vector<Numbers32>> outputs;
  Bytes message;
  bool sent = false;
  std::string op;
};

World::World(const ModelSpec& model, const Layout& layout, int64_t samples, Update update, const Mesh::After& after)
    : layout_(layout), micro_batch_(model.micro_batch), samples_(samples), training_(true) {
  add_ranks(model, KM_MODE_TRAIN, model.tokens, 0,
            [&](Graph& graph, const Mesh& mesh) { make_training_graph(graph, mesh, update, after); });
}

World::World(const ModelSpec& model, const Layout& layout, uint32_t mode, int64_t samples, int64_t tokens,
             int64_t capacity)
    : layout_(layout), micro_batch_(model.micro_batch), samples_(samples) {
  add_ranks(model, mode, tokens, capacity, [&](Graph& graph, const Mesh& mesh) {
    mesh.rewrite_forward(graph);
    make_inference_graph(graph);
  });
}

World::~World() = default;

void World::add_ranks(const ModelSpec& spec, uint32_t mode, int64_t tokens, int64_t capacity,
                      const std::function<void(Graph&, const Mesh&)>& finish) {
  if (samples_ % (micro_batch_ * layout_.data)) throw std::runtime_error("the batch does not divide");
  micros_ = static_cast<int32_t>(samples_ / (micro_batch_ * layout_.data));
  vocabulary_ = spec.vocabulary;
  kernels_ = std::make_unique<Component>("plugins/kernels/reference/reference.so", "kernels");
  const Component model("plugins/models/transformer/" + spec.plugin + "/" + spec.plugin + ".so", "model", spec.options);
  for (int64_t r = 0; r < layout_.ranks(); ++r) {
    auto rank = std::make_unique<Rank>(layout_, r);
    rank->graph = std::make_unique<Graph>(mode);
    rank->graph->cursor.origin = "model " + spec.plugin;
    ModelShape shape;
    shape.batch = micro_batch_;
    shape.tokens = tokens;
    shape.vocabulary = spec.vocabulary;
    shape.capacity = capacity;
    shape.sequence = spec.tokens;
    shape.segments = spec.segments;
    build_model(model, *rank->graph, shape);
    rank->graph->cursor = {};
    finish(*rank->graph, rank->mesh);
    make_list(*rank);
    fill(*rank);
    ranks_.push_back(std::move(rank));
  }
}

void World::make_list(Rank& rank) const {
  const Graph& graph = *rank.graph;
  const auto stands_here = [&](const Node& node) {
    if (node.op != "add_stages") return rank.mesh.owns(node.stage);
    const std::vector<int64_t> stages = node.list("stages");
    return stages.empty() || std::any_of(stages.begin(), stages.end(),
                                         [&](int64_t stage) { return rank.mesh.owns(static_cast<int32_t>(stage)); });
  };
  const auto add_phase = [&](Phase phase) {
    for (const NodeId id : graph.order())
      if (graph.node(id).phase == phase && stands_here(graph.node(id)))
        rank.list.push_back({&graph.node(id), kOnce, Item::Kind::kRun});
  };
  const auto add_part = [&](int32_t stage, const std::set<uint32_t>& parts, int32_t micro) {
    for (const NodeId id : graph.order()) {
      const Node& node = graph.node(id);
      if (node.phase != Phase::kBody || !parts.count(static_cast<uint32_t>(node.part))) continue;
      if (node.op == "transfer") {
        if (node.i64("from") == stage) rank.list.push_back({&node, micro, Item::Kind::kSend});
        if (node.i64("to") == stage) rank.list.push_back({&node, micro, Item::Kind::kReceive});
      } else if (node.stage == stage) {
        rank.list.push_back({&node, micro, Item::Kind::kRun});
      }
    }
  };
  add_phase(Phase::kHead);
  const std::vector<Mesh::Entry> entries = rank.mesh.schedule(graph.stages(), micros_, training_);
  for (size_t i = 0; i < entries.size(); ++i) {
    const Mesh::Entry& e = entries[i];
    if (!rank.mesh.owns(e.stage)) throw std::runtime_error("the schedule names a stage of another rank");
    std::set<uint32_t> parts = {e.part};
    if (e.part == KM_PART_BACKWARD && i + 1 < entries.size() && entries[i + 1].part == KM_PART_WEIGHT &&
        entries[i + 1].stage == e.stage && entries[i + 1].micro == e.micro) {
      parts.insert(KM_PART_WEIGHT);
      ++i;
    }
    add_part(e.stage, parts, e.micro);
  }
  add_phase(Phase::kTail);
}

void World::fill(Rank& rank) {
  for (const ValueId id : rank.graph->values()) {
    const Value& value = rank.graph->value(id);
    if (value.kind == ValueKind::kConstant)
      rank.memory[{id, kOnce}] = bytes_of<float>({static_cast<float>(value.constant)});
    if (value.kind == ValueKind::kState) rank.memory[{id, kOnce}].resize(value.type.bytes());
    if (value.kind != ValueKind::kParameter) continue;
    const std::string& name = value.tied_to ? rank.graph->value(value.tied_to).name : value.name;
    std::vector<float> elements(static_cast<size_t>(value.type.elements()));
    for_elements(value, [&](size_t local, int64_t logical) { elements[local] = initial_value(value, name, logical); });
    rank.memory[{id, kOnce}] = bytes_of(elements);
  }
}

void World::set_tokens(int64_t past, const std::vector<int32_t>& tokens) {
  past_ = past;
  given_tokens_ = tokens;
}

// Inputs and step scalars of all micro-batches are set anew; what was computed in the last step is forgotten.
void World::step() {
  ++step_;
  meetings_.clear();
  for (auto& rank : ranks_) {
    const Graph& graph = *rank->graph;
    for (auto at = rank->memory.begin(); at != rank->memory.end();) {
      const ValueKind kind = graph.value(at->first.first).kind;
      const bool stays = kind == ValueKind::kParameter || kind == ValueKind::kState || kind == ValueKind::kConstant;
      at = stays ? std::next(at) : rank->memory.erase(at);
    }
    for (const ValueId id : graph.values()) {
      const Value& value = graph.value(id);
      if (value.kind != ValueKind::kInput && value.kind != ValueKind::kScalar) continue;
      for (int32_t m = 0; m < (value.varies ? micros_ : 1); ++m) {
        const int64_t block = m * layout_.data + rank->mesh.coordinate("data");
        const int64_t first = (step_ - 1) * samples_ + block * micro_batch_;
        const int32_t micro = value.varies ? m : kOnce;
        Bytes& bytes = rank->memory[{id, micro}];
        if (value.kind == ValueKind::kInput)
          bytes = bytes_of(given_tokens_.empty()
                               ? rank->own_tokens(batch_of(value.name, first, whole_shape(value), vocabulary_))
                               : given_tokens_);
        else if (value.name == "seed" || value.name == "sample")
          bytes = bytes_of<int64_t>({value.name == "seed" ? 42 : first});
        else if (value.name == "micro" || value.name == "past")
          bytes = bytes_of<int32_t>({value.name == "micro" ? m : static_cast<int32_t>(past_)});
        else if (value.name == "step")
          bytes = bytes_of<float>({static_cast<float>(step_)});
        else if (value.name == "learning_rate")
          bytes = bytes_of<float>({0.003f * static_cast<float>(step_)});
        else
          bytes = bytes_of<float>({1.0f}); // loss_scale
      }
    }
    rank->at = 0;
    rank->met.clear();
    rank->assigned.clear();
  }
  for (bool moved = true; moved;) {
    moved = false;
    for (auto& rank : ranks_)
      while (rank->at < rank->list.size() && advance(*rank)) {
        ++rank->at;
        moved = true;
      }
  }
  std::string waiting;
  for (const auto& rank : ranks_)
    if (rank->at < rank->list.size())
      waiting += (waiting.empty() ? "" : "; ") + std::string("rank ") + std::to_string(rank->index) + " at " +
                 to_text(*rank->graph, *rank->list[rank->at].node) + " of micro-batch " +
                 std::to_string(rank->list[rank->at].micro);
  if (!waiting.empty()) throw std::runtime_error("deadlock: " + waiting);
  for (auto& rank : ranks_)
    for (auto& [id, bytes] : rank->assigned) rank->memory[{id, kOnce}] = std::move(bytes);
}

// Runs the item that the rank stands at; false: it waits for others.
bool World::advance(Rank& rank) {
  const Item& item = rank.list[rank.at];
  const Node& node = *item.node;
  if (is_collective(node)) return meet(rank, item);
  if (node.op == "assign") {
    rank.assigned.emplace_back(node.inputs[0], rank.get(node.inputs[1], item.micro));
  } else if (node.op == "accumulate") {
    const std::vector<float> more = floats(rank.get(node.inputs[0], item.micro));
    const auto found = rank.memory.find({node.outputs[0], kOnce});
    std::vector<float> sum = found == rank.memory.end() ? std::vector<float>(more.size()) : floats(found->second);
    for (size_t i = 0; i < more.size(); ++i) sum[i] += more[i];
    rank.put(node.outputs[0], item.micro, bytes_of(sum));
  } else {
    compute(rank, node, item.micro);
  }
  return true;
}

// The ranks that take part, by their index in the group. Half of a split axis is said by its name: "tensor/2" counts the
// blocks of two neighbours, "tensor%2" the ranks of a block.
std::vector<size_t> World::group(const Rank& rank, const Node& node) const {
  struct Along {
    std::string axis;
    int64_t block = 1;
    bool within = false;
    int64_t counts(int64_t coordinate) const { return within ? coordinate % block : coordinate / block; }
    int64_t keeps(int64_t coordinate) const { return within ? coordinate / block : coordinate % block; }
  };
  std::vector<Along> along;
  std::istringstream in(node.op == "add_stages" ? "pipeline" : node.text("axes"));
  for (std::string name; std::getline(in, name, ',');) {
    const size_t half = name.find_first_of("/%");
    Along one{name.substr(0, half)};
    if (half != std::string::npos) one.block = std::stoll(name.substr(half + 1)), one.within = name[half] == '%';
    along.push_back(one);
  }
  const auto same = [&](const Axis& axis, int64_t other) {
    std::vector<const Along*> here;
    for (const Along& one : along)
      if (one.axis == axis.name) here.push_back(&one);
    if (here.empty()) return other == axis.coordinate;
    return here.size() == 2 || here[0]->keeps(other) == here[0]->keeps(axis.coordinate); // two halves are the whole
  };
  const std::vector<int64_t> stages = node.list("stages");
  std::vector<std::pair<std::vector<int64_t>, size_t>> members;
  for (const auto& other : ranks_) {
    bool takes_part = true;
    for (const Axis& axis : rank.mesh.axes()) takes_part = takes_part && same(axis, other->mesh.coordinate(axis.name));
    if (node.op == "add_stages" && !stages.empty())
      takes_part = takes_part && std::any_of(stages.begin(), stages.end(), [&](int64_t stage) {
                     return other->mesh.owns(static_cast<int32_t>(stage));
                   });
    if (!takes_part) continue;
    std::vector<int64_t> index;
    for (const Along& one : along) index.push_back(one.counts(other->mesh.coordinate(one.axis)));
    members.emplace_back(index, other->index);
  }
  std::sort(members.begin(), members.end());
  std::vector<size_t> ranks;
  for (const auto& [index, member] : members) ranks.push_back(member);
  return ranks;
}

bool World::meet(Rank& rank, const Item& item) {
  const Node& node = *item.node;
  if (node.op == "transfer") {
    const int64_t to = node.i64("to");
    size_t receiver = rank.index;
    for (const auto& other : ranks_) {
      bool same = other->mesh.owns(static_cast<int32_t>(to));
      for (const Axis& axis : rank.mesh.axes())
        same = same && (axis.name == "pipeline" || other->mesh.coordinate(axis.name) == axis.coordinate);
      if (same) receiver = other->index;
    }
    Meeting& message = meetings_["node " + std::to_string(node.id) + " micro " + std::to_string(item.micro) + " to " +
                                 std::to_string(receiver)];
    if (item.kind == Item::Kind::kSend) {
      message.message = rank.get(node.inputs[0], item.micro);
      message.sent = true;
      return true;
    }
    if (!message.sent) return false;
    rank.put(node.outputs[0], item.micro, message.message);
    return true;
  }
  const std::vector<size_t> members = group(rank, node);
  std::string key;
  for (const size_t member : members) key += std::to_string(member) + ",";
  const int64_t number = rank.met[key]; // all ranks of a group issue its collectives in one order
  Meeting& meeting = meetings_[key + " number " + std::to_string(number)];
  if (meeting.op.empty()) meeting.op = node.op;
  if (meeting.op != node.op) throw std::runtime_error("ranks meet with " + meeting.op + " and " + node.op);
  if (!meeting.inputs.count(rank.index)) {
    std::vector<Numbers32>& inputs = meeting.inputs[rank.index];
    for (const ValueId id : node.inputs)
      if (node.op != "add_stages" || rank.mesh.owns(rank.graph->value(id).stage))
        inputs.push_back(floats(rank.get(id, item.micro)));
    for (const ValueId id : node.inputs) meeting.shapes[rank.index].push_back(rank.graph->value(id).type.shape);
  }
  if (meeting.inputs.size() < members.size()) return false;
  if (meeting.outputs.empty()) {
    if (node.op == "add_stages") {
      std::vector<double> sum;
      for (const size_t member : members)
        for (const Numbers32& more : meeting.inputs[member]) {
          sum.resize(more.size(), 0.0);
          for (size_t i = 0; i < more.size(); ++i) sum[i] += more[i];
        }
      for (const size_t member : members) meeting.outputs[member] = {Numbers32(sum.begin(), sum.end())};
    } else {
      std::vector<std::vector<Numbers32>> inputs;
      std::vector<std::vector<Shape>> shapes;
      for (const size_t member : members) {
        inputs.push_back(meeting.inputs[member]);
        shapes.emplace_back();
        shapes.back() = meeting.shapes[member];
      }
      const auto outputs = run_collective(node, inputs, shapes);
      for (size_t i = 0; i < members.size(); ++i) meeting.outputs[members[i]] = outputs[i];
    }
  }
  ++rank.met[key];
  const std::vector<Numbers32>& mine = meeting.outputs.at(rank.index);
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (static_cast<int64_t>(mine[i].size()) != rank.graph->value(node.outputs[i]).type.elements())
      throw std::runtime_error(node.op + " gives another number of elements than its type says");
    rank.put(node.outputs[i], item.micro, bytes_of(mine[i]));
  }
  return true;
}

void World::compute(Rank& rank, const Node& node, int32_t micro) {
  const Graph& graph = *rank.graph;
  std::vector<km_tensor> in, out;
  std::vector<Bytes> inputs, outputs;
  std::vector<km_address> buffers;
  for (const ValueId id : node.inputs) {
    in.push_back(to_abi(graph.value(id).type));
    inputs.push_back(rank.get(id, micro));
    if (inputs.back().size() != graph.value(id).type.bytes())
      throw std::runtime_error(to_text(graph, node) + ": an input has another size than its type says");
  }
  for (const ValueId id : node.outputs) {
    out.push_back(to_abi(graph.value(id).type));
    outputs.emplace_back(graph.value(id).type.bytes());
  }
  for (Bytes& bytes : inputs) buffers.push_back(reinterpret_cast<km_address>(bytes.data()));
  for (Bytes& bytes : outputs) buffers.push_back(reinterpret_cast<km_address>(bytes.data()));
  const std::vector<km_attribute> attributes = to_abi(node.attributes);
  const km_op op = {sizeof op,
                    static_cast<uint32_t>(in.size()),
                    static_cast<uint32_t>(out.size()),
                    static_cast<uint32_t>(attributes.size()),
                    node.op.c_str(),
                    in.data(),
                    out.data(),
                    attributes.data()};
  const km_request request = {sizeof request, 0, &op};
  const auto& table = kernels_->table<km_kernels>();
  km_support support = {};
  support.struct_size = sizeof support;
  km_kernel* kernel = nullptr;
  if (table.query(kernels_->self(), &request, &support) != KM_OK ||
      table.create(kernels_->self(), &request, &kernel) != KM_OK)
    throw std::runtime_error(to_text(graph, node) + ": " + Component::take_error());
  Bytes workspace(support.workspace_bytes);
  const km_status status =
      table.run(kernels_->self(), kernel, buffers.data(), reinterpret_cast<km_address>(workspace.data()), nullptr);
  table.destroy(kernels_->self(), kernel);
  if (status != KM_OK) throw std::runtime_error(to_text(graph, node) + ": " + Component::take_error());
  for (size_t i = 0; i < outputs.size(); ++i) rank.put(node.outputs[i], micro, std::move(outputs[i]));
}

World::Tensors World::collect(const std::function<ValueId(const Graph&, ValueId)>& of) const {
  Tensors all;
  std::map<std::string, std::vector<bool>> set;
  for (const auto& rank : ranks_) {
    const Graph& graph = *rank->graph;
    for (const ValueId id : graph.parameters()) {
      const Value& parameter = graph.value(id);
      if (!rank->mesh.owns(parameter.stage)) continue;
      const std::string& name = parameter.tied_to ? graph.value(parameter.tied_to).name : parameter.name;
      const Shape& shape = parameter.logical_shape.empty() ? parameter.type.shape : parameter.logical_shape;
      const size_t n = static_cast<size_t>(Type{KM_F32, shape}.elements());
      std::vector<float>& whole = all[name];
      std::vector<bool>& there = set[name];
      whole.resize(n);
      there.resize(n);
      const std::vector<float> part = floats(rank->get(of(graph, id), 0));
      for_elements(parameter, [&](size_t local, int64_t logical) {
        const size_t e = static_cast<size_t>(logical);
        if (there[e] && std::memcmp(&whole[e], &part[local], sizeof(float)) != 0)
          throw std::runtime_error(name + ": rank " + std::to_string(rank->index) + " holds other bits than another");
        whole[e] = part[local];
        there[e] = true;
      });
    }
  }
  for (const auto& [name, there] : set)
    if (std::find(there.begin(), there.end(), false) != there.end())
      throw std::runtime_error(name + ": no rank holds some of its elements");
  return all;
}

World::Tensors World::parameters() const {
  return collect([](const Graph&, ValueId id) { return id; });
}

World::Tensors World::gradients() const {
  return collect([](const Graph& graph, ValueId id) { return graph.gradients().at(id); });
}

std::vector<float> World::output(const std::string& name) const {
  std::optional<std::vector<float>> first;
  for (const auto& rank : ranks_) {
    const ValueId id = rank->graph->output(name);
    if (!rank->mesh.owns(rank->graph->value(id).stage)) continue;
    const std::vector<float> mine = floats(rank->get(id, 0));
    if (!first) first = mine;
    if (bytes_of(*first) != bytes_of(mine)) throw std::runtime_error("output " + name + " differs between ranks");
  }
  return first.value();
}

int64_t World::stored_bytes(int64_t rank) const {
  int64_t bytes = 0;
  const Rank& r = *ranks_[static_cast<size_t>(rank)];
  for (const ValueId id : r.graph->values()) {
    const Value& value = r.graph->value(id);
    if ((value.kind == ValueKind::kParameter || value.kind == ValueKind::kState) && r.mesh.owns(value.stage))
      bytes += static_cast<int64_t>(value.type.bytes());
  }
  return bytes;
}

// What forward nodes make and backward nodes read.
int64_t World::kept_bytes(int64_t rank) const {
  int64_t bytes = 0;
  const Rank& r = *ranks_[static_cast<size_t>(rank)];
  for (const ValueId id : r.graph->values()) {
    const Value& value = r.graph->value(id);
    if (value.producer == 0 || !r.mesh.owns(value.stage)) continue;
    const Node& maker = r.graph->node(value.producer);
    if (maker.phase != Phase::kBody || maker.part != Part::kForward || maker.op == "accumulate") continue;
    for (const NodeId user : r.graph->users(id))
      if (r.graph->node(user).phase == Phase::kBody && r.graph->node(user).part != Part::kForward) {
        bytes += static_cast<int64_t>(value.type.bytes());
        break;
      }
  }
  return bytes;
}

const Graph& World::graph(int64_t rank) const { return *ranks_[static_cast<size_t>(rank)]->graph; }

double difference(const std::vector<float>& expected, const std::vector<float>& got) {
  if (expected.size() != got.size()) return INFINITY;
  double largest = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(got[i])) return INFINITY;
    largest = std::max(largest, std::fabs(static_cast<double>(expected[i]) - got[i]));
    size = std::max(size, std::fabs(static_cast<double>(expected[i])));
  }
  return size > 0 ? largest / size : largest;
}

} // namespace kumiki::test
