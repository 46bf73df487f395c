"""Every GraphQL document that is sent to Healthie, whole and static. Values travel in variables only.

Source: Healthie's developer guide and reference, and the generated types of its schema. Variables are non-null wherever
possible, since such a variable fits an argument of either kind; enum values stand in the documents, because the names of the
enum types are not documented. `clientMutationId` is never asked for: newer versions of the API have none.

A test validates each document against `tests/vendors/healthie/schema.graphql`.
"""

_PATIENT = """
fragment patient on User {
  id
  record_identifier
  first_name
  last_name
  dob
  policies {
    id
    num
    group_num
    priority_type
    holder_first
    holder_last
    holder_mi
    holder_dob
    holder_gender
    holder_phone
    holder_relationship
    insurance_plan { id payer_id payer_name }
    latest_eligibility_check { id created_at }
  }
}
"""

_CHECK = """
fragment check on EligibilityCheck {
  id
  created_at
  response
  policy {
    id
    claim_eligibility_check_errors { code description }
    insurance_plan { id payer_id payer_name is_accepted }
  }
}
"""

INSURANCE_PLANS = """
query insurancePlans($keywords: String, $is_accepted: Boolean, $offset: Int) {
  insurancePlans(keywords: $keywords, is_accepted: $is_accepted, offset: $offset) {
    id
    payer_id
    payer_name
    is_accepted
  }
}
"""

FIND_PATIENTS = (
    """
query findPatients($keywords: String!, $provider_id: String) {
  users(keywords: $keywords, provider_id: $provider_id, show_all_by_default: false) { ...patient }
}
"""
    + _PATIENT
)

IDENTIFY_PATIENT = """
query identifyPatient($id: ID!) {
  user(id: $id) {
    id
    first_name
    last_name
    dob
    policies { num }
  }
}
"""
"""No more than tells whether the record is the asked patient's."""

READ_PATIENT = (
    """
query readPatient($id: ID!) {
  user(id: $id) { ...patient }
}
"""
    + _PATIENT
)

CREATE_PATIENT = (
    """
mutation createPatient(
  $first_name: String!
  $last_name: String!
  $dob: String!
  $gender: String
  $dietitian_id: String
  $record_identifier: String!
) {
  createClient(
    input: {
      first_name: $first_name
      last_name: $last_name
      dob: $dob
      gender: $gender
      dietitian_id: $dietitian_id
      record_identifier: $record_identifier
      skipped_email: true
      dont_send_welcome: true
    }
  ) {
    user { ...patient }
    messages { field message }
  }
}
"""
    + _PATIENT
)

WRITE_POLICY = (
    """
mutation writePolicy($id: ID!, $policies: [ClientPolicyInput!]!) {
  updateClient(input: { id: $id, policies: $policies }) {
    user { ...patient }
    messages { field message }
  }
}
"""
    + _PATIENT
)

RUN_CHECK = (
    """
mutation runEligibilityCheck($id: ID!, $service_codes: [String!]!) {
  runEligibilityCheck(
    input: { id: $id, service_codes: $service_codes, eligibility_check_service: claim_md }
  ) {
    eligibility_check { ...check }
    messages { field message }
  }
}
"""
    + _CHECK
)

READ_POLICY = (
    """
query readPolicy($id: ID!) {
  policy(id: $id) {
    id
    num
    latest_eligibility_check { ...check }
  }
}
"""
    + _CHECK
)

DOCUMENTS = (
    INSURANCE_PLANS,
    FIND_PATIENTS,
    IDENTIFY_PATIENT,
    READ_PATIENT,
    CREATE_PATIENT,
    WRITE_POLICY,
    RUN_CHECK,
    READ_POLICY,
)
