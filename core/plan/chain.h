// The chain of kernels components that [kernels] names: for each op the first that can run it, or the fastest. It holds the
// opened instances, and the device that they share. Floor: plan.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/plan/device.h"
#include "core/plugin/options.h"
#include "core/plugin/registry.h"
#include "kumiki/kernels.h"

namespace kumiki {

// An op with concrete types in ABI form; owns what the km_op points to.
class OpRequest {
 public:
  OpRequest(const Graph& graph, const Node& node, uint32_t may_prepack);
  OpRequest(const std::string& op, std::vector<km_tensor> inputs, std::vector<km_tensor> outputs,
            const Attributes& attributes, uint32_t may_prepack);
  OpRequest(const OpRequest&) = delete;
  OpRequest& operator=(const OpRequest&) = delete;
  const km_request* get() const { return &request_; }
  const km_op& op() const { return op_; }
  // "matmul f32[1024,768] f32[768,768] {transpose_b=1}": names a problem; equal text, equal problem.
  std::string text() const;

 private:
  void fill(uint32_t may_prepack);
  std::string name_;
  std::vector<km_tensor> inputs_, outputs_;
  Attributes attributes_;
  std::vector<km_attribute> abi_attributes_;
  km_op op_{};
  km_request request_{};
};

class KernelChain {
 public:
  struct Member {
    std::string name;
    std::string plugin; // "acme 1.2"
    km_kernels table{}; // of the host's size: what the plugin does not have is null
    void* self = nullptr;
  };
  struct Choice {
    uint32_t member = 0;
    km_support support{};
  };

  // Opens the components in the order given. One that says KM_UNSUPPORTED at open is left out with a line in the log;
  // nothing left, or members of two devices: Error.
  KernelChain(Host& host, const std::vector<std::pair<const Component*, OptionValues>>& components);
  ~KernelChain();
  KernelChain(const KernelChain&) = delete;
  KernelChain& operator=(const KernelChain&) = delete;

  Device& device() { return *device_; }
  const std::vector<Member>& members() const { return members_; }

  // Can any member run it?
  bool supported(const OpRequest& request) const;
  // The member that runs it: by order, or as `pick` decides. Throws Error naming the op and what each member said.
  Choice choose(const OpRequest& request);
  // Called by choose where several members can; gives the index into the list. Unset: the first.
  std::function<size_t(const OpRequest&, const std::vector<Choice>&)> pick;

  // The kernel for a request that was chosen; equal requests share one. Lives as long as the chain.
  km_kernel* create(const Choice& choice, const OpRequest& request);
  // Rules of ops that members bring ("kumiki.op/1"), for graphs.
  void add_providers(Graph& graph) const;
  // Asks each member to rewrite: before autodiff (training = false) or after. Throws Error naming the member.
  void rewrite(Graph& graph, bool training) const;

  // "matmul" -> "generic": what was chosen so far, for the start of a run and for checkpoints.
  const std::map<std::string, std::string>& chosen() const { return chosen_; }

 private:
  Host& host_;
  std::vector<Member> members_;
  std::unique_ptr<Device> device_;
  std::map<std::string, std::pair<uint32_t, km_kernel*>> kernels_; // by member and problem
  std::map<std::string, std::string> chosen_;
  struct PluginRules;
  std::vector<std::unique_ptr<PluginRules>> rules_;
};

} // namespace kumiki
