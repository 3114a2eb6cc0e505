"""The live screen: pages that the gateway serves, and how they are found."""
