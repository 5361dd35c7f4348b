//! A loan application: its events, as the bank's own system named them, and its state.

use annals::{Aggregate, domain_events};
use serde::{Deserialize, Serialize};

/// The events of an application itself. The log also holds offers and work items, which are not
/// read here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum ApplicationEvent {
    Submitted {
        #[serde(rename = "AMOUNT_REQ")]
        amount: String,
    },
    PartlySubmitted,
    PreAccepted,
    Accepted,
    Finalized,
    Approved,
    Registered,
    Activated,
    Declined,
    Cancelled,
}

domain_events! { ApplicationEvent {
    Submitted => "A_SUBMITTED",
    PartlySubmitted => "A_PARTLYSUBMITTED",
    PreAccepted => "A_PREACCEPTED",
    Accepted => "A_ACCEPTED",
    Finalized => "A_FINALIZED",
    Approved => "A_APPROVED",
    Registered => "A_REGISTERED",
    Activated => "A_ACTIVATED",
    Declined => "A_DECLINED",
    Cancelled => "A_CANCELLED",
} }

/// The stage that an application has reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Stage {
    #[default]
    Unknown,
    Submitted,
    PreAccepted,
    Accepted,
    Finalized,
    Activated,
    Declined,
    Cancelled,
}

impl Stage {
    /// The stage that an event leads to; `None` if the stage does not change.
    pub(crate) fn after(event: &ApplicationEvent) -> Option<Self> {
        match event {
            ApplicationEvent::Submitted { .. } => Some(Self::Submitted),
            ApplicationEvent::PreAccepted => Some(Self::PreAccepted),
            ApplicationEvent::Accepted => Some(Self::Accepted),
            ApplicationEvent::Finalized => Some(Self::Finalized),
            ApplicationEvent::Activated => Some(Self::Activated),
            ApplicationEvent::Declined => Some(Self::Declined),
            ApplicationEvent::Cancelled => Some(Self::Cancelled),
            // Each of these comes together with an event that changes the stage.
            ApplicationEvent::PartlySubmitted
            | ApplicationEvent::Approved
            | ApplicationEvent::Registered => None,
        }
    }

    pub(crate) fn is_decided(self) -> bool {
        matches!(self, Self::Activated | Self::Declined | Self::Cancelled)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Submitted => "submitted",
            Self::PreAccepted => "pre-accepted",
            Self::Accepted => "accepted",
            Self::Finalized => "finalized",
            Self::Activated => "activated",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The state of an application.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Application {
    pub(crate) stage: Stage,
    pub(crate) amount: u64,
}

/// The commands of an application.
#[derive(Debug, Clone)]
pub(crate) enum ApplicationCommand {
    Cancel,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApplicationError {
    #[error("there is no such application")]
    Unknown,
    #[error("the application was {} already", stage.name())]
    Decided { stage: Stage },
}

impl Aggregate for Application {
    const CATEGORY: &'static str = "application";
    type Event = ApplicationEvent;
    type Command = ApplicationCommand;
    type Error = ApplicationError;

    fn apply(&mut self, event: ApplicationEvent) {
        if let ApplicationEvent::Submitted { amount } = &event {
            self.amount = amount.parse().unwrap_or_default();
        }
        self.stage = Stage::after(&event).unwrap_or(self.stage);
    }

    fn handle(
        &self,
        command: &ApplicationCommand,
    ) -> Result<Vec<ApplicationEvent>, ApplicationError> {
        let ApplicationCommand::Cancel = command;
        match self.stage {
            Stage::Unknown => Err(ApplicationError::Unknown),
            stage if stage.is_decided() => Err(ApplicationError::Decided { stage }),
            _ => Ok(vec![ApplicationEvent::Cancelled]),
        }
    }
}
