-- Every kind of ops.restate.dev has a status in the kstatus convention: Ready, and while it is true Reconciling or
-- Stalled; status.observedGeneration is -1 before the operator has looked at an object.
local hs = {status = "Progressing", message = "Waiting for the operator to look at it"}
local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return hs
end

-- Reasons of an action's wait that only a person ends. An engine or a policy that is switched off is Healthy: a sync waits
-- for their waves, and the commit that switches them on again must come through (argoproj/argo-cd#24428).
local held = {Suspended = true, EngineSuspended = true, AwaitingApproval = true, ApprovalMismatch = true}

for _, condition in ipairs(status.conditions) do
  if condition.type == "Stalled" and condition.status == "True" then
    return {status = "Degraded", message = condition.message}
  elseif condition.type == "Ready" then
    hs.message = condition.message
    if condition.status == "True" then
      hs.status = "Healthy"
    elseif held[condition.reason] then
      hs.status = obj.kind == "InvocationAction" and "Suspended" or "Healthy"
    end
  end
end
return hs
